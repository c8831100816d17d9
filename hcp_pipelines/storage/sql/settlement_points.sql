-- Where the facilities that take part are settled: the points whose prices the feed needs.
select distinct settlement_point from facilities where status <> 'retired' order by settlement_point
