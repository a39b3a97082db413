-- What is run again over everything, and why.
--@ source r {columns: {k: VARCHAR, j: INTEGER, i: INTEGER, b: BIGINT, n: "DECIMAL(18,4)", x: DOUBLE, s: VARCHAR, t: TIMESTAMP, z: TIMESTAMPTZ, d: DATE, f: BOOLEAN}}
--@ source other {columns: {key: VARCHAR, v: JSON}}
--@ source dim {columns: {key: VARCHAR, v: INTEGER}, latest_by: [key]}
--@ source one {columns: {i: INTEGER}}
--@ slice counts
SELECT k, count(*) AS n FROM r GROUP BY k

--@ case order_by_limit recompute
--@ why ORDER BY
SELECT k, i FROM r ORDER BY i LIMIT 3

--@ case scalar_subquery recompute
--@ why subquery
SELECT k FROM r WHERE i = (SELECT max(i) FROM r)

--@ case self_join recompute
--@ why no equality leads to one key
SELECT a.k FROM r AS a JOIN r AS b ON a._position = b._position + 1

--@ case rollup_of_medians recompute
--@ why ROLLUP
SELECT k, j, median(i) AS m FROM r GROUP BY ROLLUP (k, j)

--@ case rollup_over_a_slice recompute
--@ why has GROUPING SETS, ROLLUP or CUBE over a slice
SELECT k, sum(n) AS n FROM counts GROUP BY ROLLUP (k)

--@ case cube_over_a_join recompute
--@ why over a join
SELECT r.k, o.key, count(*) AS c FROM r JOIN other AS o ON r.k = o.key GROUP BY CUBE (r.k, o.key)

--@ case join_without_a_key recompute
--@ why no equality leads to one key
SELECT r.k, o.v FROM r, other AS o WHERE o.key > r.k

--@ case dimension recompute
--@ why dimension
SELECT v, count(*) FROM dim GROUP BY v

--@ case no_source recompute
--@ why no source
SELECT 1 AS one

--@ case unnest_beside_aggregate recompute
--@ why unnest
SELECT unnest([1, 2]) AS u, count(*) FROM r GROUP BY ALL

--@ case collate_key recompute
--@ why COLLATE
SELECT k COLLATE NOCASE AS kk, count(*) FROM r GROUP BY 1

--@ case window_without_partition recompute
--@ why no key in common
SELECT i, sum(i) OVER (ORDER BY _position) AS running FROM r

--@ case windows_by_different_keys recompute
--@ why no key in common
SELECT i, sum(i) OVER (PARTITION BY k ORDER BY _position) AS a, sum(i) OVER (PARTITION BY j ORDER BY _position) AS b FROM r

--@ case no_groups recompute
--@ why all rows together
SELECT median(i) AS m FROM r

--@ case keyed_subquery recompute
--@ why has a subquery
SELECT k, median(i) AS m FROM r WHERE i > (SELECT avg(i) FROM r) GROUP BY k

--@ case recursive recompute
--@ why names the columns of a WITH
WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 3) SELECT count(*) AS c FROM n, r

--@ case on_a_schedule recompute
--@ with refresh: {every: 1h}
--@ why on a schedule
SELECT k, median(i) AS m FROM r GROUP BY k

--@ case counts_on_a_schedule recompute
--@ with refresh: {every: 1h}
--@ why is refreshed on a schedule
SELECT k, count(*) AS n FROM r GROUP BY k

--@ case lines_on_a_schedule recompute
--@ with refresh: {every: 1h}
--@ why is refreshed on a schedule
SELECT k, i FROM r

-- Rows that were worked out by hand.
--@ case first_three_by_hand recompute
--@ record r {"k":"a","i":3}
--@ record r {"k":"b","i":1}
--@ record r {"k":"c","i":2}
--@ record r {"k":"d","i":9}
SELECT k, i FROM r ORDER BY i, k LIMIT 3
--> b | 1
--> c | 2
--> a | 3

--@ case union_at_the_top recompute
--@ record r {"k":"a","i":1,"j":1}
--@ record r {"k":"b","i":2,"j":1}
SELECT i AS n FROM r UNION SELECT j FROM r
--> 1
--> 2

--@ case intersect_and_except recompute
--@ record r {"k":"a","i":1,"j":2}
--@ record r {"k":"b","i":2,"j":3}
--@ record r {"k":"b","i":4,"j":4}
(SELECT i AS n FROM r INTERSECT SELECT j FROM r) EXCEPT SELECT 4
--> 2

--@ case pivoted recompute
--@ no random
--@ record r {"k":"a","j":1,"i":10}
--@ record r {"k":"a","j":2,"i":20}
--@ record r {"k":"b","j":1,"i":30}
SELECT * FROM (PIVOT (SELECT k, j, i FROM r) ON j IN (1, 2) USING sum(i))
--> a | 10 | 20
--> b | 30 | NULL

--@ case a_recursion_by_hand recompute
--@ no random
--@ record r {"k":"a","i":1,"j":2}
--@ record r {"k":"b","i":2,"j":3}
--@ record r {"k":"c","i":7,"j":8}
WITH RECURSIVE reached(n) AS (SELECT 1 UNION SELECT r.j FROM r JOIN reached ON r.i = reached.n) SELECT n FROM reached
--> 1
--> 2
--> 3

--@ case ranks_by_hand recompute
--@ record r {"k":"a","i":5}
--@ record r {"k":"b","i":5}
--@ record r {"k":"c","i":1}
SELECT k, rank() OVER (ORDER BY i DESC) AS place FROM r QUALIFY rank() OVER (ORDER BY i DESC) <= 2
--> a | 1
--> b | 1

--@ case an_outer_join_of_both_sides recompute
--@ record r {"k":"a","i":1}
--@ record other {"key":"b"}
SELECT r.k, o.key FROM r FULL JOIN other AS o ON r.k = o.key
--> a | NULL
--> NULL | b

--@ case pivot_of_a_source recompute
--@ record other {"key":"x"}
--@ record other {"key":"y"}
--@ record other {"key":"x"}
SELECT * FROM (PIVOT other ON key IN ('x', 'y') USING count(*))
--> NULL | 2 | 1

--@ case union_of_stars recompute
--@ record other {"key":"x"}
--@ record other {"key":"x"}
SELECT * FROM other UNION SELECT * FROM other
--> x | NULL

-- DuckDB would write the CROSS JOIN as a comma, which binds looser than the JOIN.
--@ case star_beside_a_cross_join recompute
--@ record other {"key":"x"}
--@ record other {"key":"y"}
--@ record dim {"key":"x","v":1}
--@ record dim {"key":"z","v":2}
--@ record r {"k":"a","i":1}
--@ record r {"k":"b","i":2}
SELECT r.k, o.key AS ok, p.* FROM r CROSS JOIN other AS o FULL JOIN dim AS p ON o.key = p.key
--> a | x | x | 1
--> b | x | x | 1
--> a | y | NULL | NULL
--> b | y | NULL | NULL
--> NULL | NULL | z | 2

--@ case star_beside_a_cross_join_of_three recompute
SELECT o.*, r.k, p.v AS pv FROM r CROSS JOIN other AS o CROSS JOIN counts AS c RIGHT JOIN dim AS p ON c.k = p.key AND r.i = p.v

--@ case union_of_a_star_with_as_many_columns recompute
--@ record dim {"key":"x","v":1}
--@ record r {"k":"a","i":2}
SELECT * FROM dim UNION ALL SELECT k, i FROM r
--> x | 1
--> a | 2

--@ case in_a_star_of_one_column
--@ record one {"i":2}
--@ record r {"k":"a","i":2}
--@ record r {"k":"b","i":3}
SELECT k, i FROM r WHERE i IN (SELECT * FROM one)
--> a | 2

-- A record is read for what the pivot is made of, and not for the rest.
--@ case pivot_of_a_few_columns recompute
--@ no random
--@ record r {"k":"a","j":1,"i":10,"b":"none"}
--@ record r {"k":"b","j":1,"i":"none"}
--@ quarantined 1
SELECT * FROM (PIVOT (SELECT k, j, i FROM r) ON j IN (1, 2) USING sum(i))
--> a | 10 | NULL

--@ case pivot_by_its_groups recompute
--@ no random
--@ record r {"k":"a","j":1,"i":10,"b":"none"}
--@ record r {"k":"a","j":2,"i":20,"t":"none"}
--@ record r {"k":"b","j":"none","i":20}
--@ quarantined 1
SELECT * FROM (PIVOT r ON j IN (1, 2) USING sum(i) GROUP BY k)
--> a | 10 | 20

--@ case natural_join_of_a_few_columns recompute
--@ record one {"i":1}
--@ record r {"k":"a","i":1,"j":"none"}
--@ record r {"k":"b","i":2}
--@ quarantined 0
SELECT o.i, q.k FROM one AS o NATURAL JOIN (SELECT k, i FROM r) AS q
--> 1 | a

--@ case chosen_columns_of_a_full_join recompute
--@ record dim {"key":"a","v":4}
--@ record r {"k":"a","i":1,"j":"none"}
--@ record r {"k":"b","i":2,"s":7}
--@ quarantined 0
SELECT COLUMNS(c -> c IN ('i', 'v')) FROM r FULL JOIN dim ON r.k = dim.key
--> 1 | 4
--> 2 | NULL

-- What its aggregates take without naming it, a pivot by its groups reads, too.
--@ case pivot_of_all_columns recompute
--@ no random
--@ record r {"k":"a","j":1,"i":10,"b":5}
--@ record r {"k":"a","j":1,"i":20,"f":true}
SELECT * FROM (PIVOT r ON j IN (1, 2) USING count(COLUMNS(*)) GROUP BY k)
--> a | 2 | 2 | 2 | 1 | 0 | 0 | 0 | 0 | 0 | 0 | 1 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0

--@ case pivot_of_whole_rows recompute
--@ no random
--@ record r {"k":"a","j":1,"i":10}
--@ record r {"k":"b","j":2,"f":true}
SELECT * FROM (PIVOT r ON j IN (1, 2) USING max(r) GROUP BY k)
--> a | {'k': a, 'j': 1, 'i': 10, 'b': NULL, 'n': NULL, 'x': NULL, 's': NULL, 't': NULL, 'z': NULL, 'd': NULL, 'f': NULL} | NULL
--> b | NULL | {'k': b, 'j': 2, 'i': NULL, 'b': NULL, 'n': NULL, 'x': NULL, 's': NULL, 't': NULL, 'z': NULL, 'd': NULL, 'f': true}

-- Its type does not tell what it is made of.
--@ case pivot_of_whole_rows_as_text recompute
--@ no random
--@ record r {"k":"a","j":1,"i":10}
SELECT * FROM (PIVOT r ON j IN (1, 2) USING max(to_json(r)) GROUP BY k)
--> a | {"k":"a","j":1,"i":10,"b":null,"n":null,"x":null,"s":null,"t":null,"z":null,"d":null,"f":null} | NULL

--@ case pivot_of_whole_rows_of_a_join recompute
--@ no random
--@ record dim {"key":"a","v":4}
--@ record r {"k":"a","j":1,"i":10}
SELECT * FROM (PIVOT (r AS q JOIN dim ON q.k = dim.key) ON j IN (1, 2) USING max(DIM) GROUP BY k)
--> a | {'key': a, 'v': 4} | NULL

--@ case pivot_of_columns_by_a_pattern recompute
--@ no random
--@ record r {"k":"a","j":1,"i":10,"n":5}
SELECT * FROM (PIVOT r ON j IN (1, 2) USING max(COLUMNS('^[jin]$')) GROUP BY k)
--> a | 1 | 10 | 5.0000 | NULL | NULL | NULL
