"""Which class of work a specification is: what it tells, the learnt model, how it is learnt and scored."""
