-- GROUPING SETS, ROLLUP and CUBE.
--@ source r {columns: {k: VARCHAR, j: INTEGER, i: INTEGER, n: "DECIMAL(18,4)", x: DOUBLE, t: TIMESTAMP}}
--@ record r {"k":"a","j":1,"i":3,"n":"1.5","x":1}
--@ record r {"k":"a","j":2,"i":1,"n":"2","x":2}
--@ record r {"k":null,"j":1,"i":7}
--@ record r {"k":"b","j":null,"i":3,"x":4}

--@ case rollup aggregate
--@ why folds records of r
SELECT k, j, count(*) AS c, sum(i) AS total FROM r GROUP BY ROLLUP (k, j)
--> a | 1 | 1 | 3
--> a | 2 | 1 | 1
--> a | NULL | 2 | 4
--> b | NULL | 1 | 3
--> b | NULL | 1 | 3
--> NULL | 1 | 1 | 7
--> NULL | NULL | 1 | 7
--> NULL | NULL | 4 | 14

--@ case of_nothing aggregate
SELECT k, count(*) AS c, sum(i) AS total, max(j) AS most FROM r WHERE i > 1000000 GROUP BY ROLLUP (k)
--> NULL | 0 | NULL | NULL

--@ case without_the_set_of_nothing aggregate
SELECT k, j, count(*) AS c FROM r WHERE i > 1000000 GROUP BY GROUPING SETS ((k), (j))
--@ no rows

--@ case sets aggregate
SELECT k, j, count(*) AS c FROM r GROUP BY GROUPING SETS ((k), (j), (k), ())

--@ case cube_with_everything aggregate
SELECT r.k, j AS jj, grouping(k) AS gk, grouping(r.j, k) AS g, avg(n) AS mean, sum(x) AS x, count(DISTINCT i) AS d, min(k) AS first FROM r GROUP BY CUBE (k, r.j)

--@ case expressions aggregate
SELECT upper(k) || '-' AS ku, i % 2 AS odd, count(*) FILTER (WHERE j > 0) AS c, stddev(x) AS s FROM r GROUP BY CUBE (upper(k) || '-', i % 2)

--@ case positions aggregate
SELECT k, date_trunc('day', t) AS day, count(*) AS c, max(i) + 1 AS most FROM r GROUP BY ROLLUP (1, 2)

--@ case beside_a_key aggregate
SELECT k, j, i, count(*) AS c FROM r GROUP BY k, ROLLUP (j, i)

--@ case having aggregate
SELECT k, j, count(*) AS c FROM r GROUP BY ROLLUP (k, j) HAVING count(*) > 1 OR grouping(k) = 1

--@ case keys_in_expressions aggregate
SELECT coalesce(k, 'all') AS k2, CASE WHEN grouping(j) = 1 THEN -1 ELSE j END AS j2, sum(j) AS total FROM r GROUP BY CUBE (k, j)

--@ case over_a_subquery aggregate
SELECT q.k, q.day, count(*) AS c FROM (SELECT k, date_trunc('day', t) AS day FROM r WHERE i > 0) AS q GROUP BY ROLLUP (k, day)

--@ case in_order aggregate
--@ why ORDER BY is dropped
SELECT k, count(*) AS c FROM r GROUP BY ROLLUP (k) ORDER BY k

--@ case by_position aggregate
SELECT k, arg_max(i, j) AS newest FROM r GROUP BY ROLLUP (k)

--@ case by_an_alias recompute
--@ why groups by an alias
SELECT i % 2 AS odd, count(*) AS c FROM r GROUP BY ROLLUP (odd)
