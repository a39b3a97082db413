-- Two readings of one stream: a record that one of them cannot take is used by neither.
--@ source paid {stream: ledger, where: {$.type: pay}, columns: {k: VARCHAR, v: INTEGER}}
--@ source sent {stream: ledger, where: {$.type: send}, columns: {k: VARCHAR, v: INTEGER}}
--@ source every {stream: ledger, columns: {k: VARCHAR, v: {type: INTEGER, required: true}}}
--@ source texts {stream: ledger, columns: {k: {type: VARCHAR, path: $.v}}}
--@ record paid {"type":"pay","k":"a","v":1}
--@ record paid {"type":"pay","k":"a"}
--@ record paid {"type":"send","k":"a","v":3}
--@ record paid {"type":"send","k":"b","v":"x"}
--@ record paid {"type":"other","k":"a","v":5}
--@ record paid {"type":"send","k":"a","v":7}

-- The pay without v is taken by `paid` and bad for `every`.
--@ case join
--@ quarantined 2
--@ filtered 0
SELECT p.k, p.v AS paid, e.v AS v FROM paid AS p JOIN every AS e ON e.k = p.k
--> a | 1 | 1
--> a | 1 | 3
--> a | 1 | 5
--> a | 1 | 7

--@ case left_join_by_key
SELECT p.k, count(*) AS n, sum(e.v) AS total FROM paid AS p LEFT JOIN every AS e ON e.k = p.k GROUP BY p.k
--> a | 4 | 16

--@ case union
--@ quarantined 1
--@ filtered 1
SELECT k, v FROM paid UNION ALL SELECT k, v FROM sent
--> a | 1
--> a | NULL
--> a | 3
--> a | 7

--@ case filtered_by_both
--@ record paid {"type":"none","k":"a","v":1}
--@ record paid {"type":"none","k":"a","v":"x"}
--@ record paid {"type":"pay","k":"a","v":2}
--@ record paid {"type":"send","k":"a","v":[]}
--@ record paid {"type":
--@ quarantined 2
--@ filtered 2
SELECT p.v, s.v AS sent FROM paid AS p LEFT JOIN sent AS s ON s.k = p.k
--> 2 | NULL

-- One takes numbers, one texts: nothing is left but what has neither, and that is required.
--@ case three_readings
--@ with on_bad_record: {budget: {percent: 100, window: 100000}}
--@ record paid {"type":"pay","k":"a","v":1}
--@ record paid {"type":"pay","k":"a","v":"x"}
--@ record paid {"type":"send","k":"a"}
--@ quarantined 3
SELECT p.v, t.k, e.v AS w FROM paid AS p, texts AS t, every AS e
--@ no rows

-- The SQL fails on one record, and another is bad for one reading only: neither is used.
--@ case failing_sql
--@ record paid {"type":"pay","k":"1","v":1}
--@ record paid {"type":"pay","k":"x","v":1}
--@ record paid {"type":"send","k":"2","v":"x"}
--@ record paid {"type":"send","k":"3","v":4}
--@ no random
--@ quarantined 2
SELECT CAST(k AS INTEGER) AS k FROM (SELECT k, v FROM paid UNION ALL SELECT k, v FROM sent)
--> 1
--> 3
