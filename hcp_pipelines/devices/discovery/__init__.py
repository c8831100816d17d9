"""Finding devices on a network: a fast raw probe over ranges of addresses, then a closer look at those that answered."""
