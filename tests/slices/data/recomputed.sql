-- What is run again over everything, and why.
--@ source r {columns: {k: VARCHAR, j: INTEGER, i: INTEGER, b: BIGINT, n: "DECIMAL(18,4)", x: DOUBLE, s: VARCHAR, t: TIMESTAMP, z: TIMESTAMPTZ, d: DATE, f: BOOLEAN}}
--@ source other {columns: {key: VARCHAR, v: JSON}}
--@ source dim {columns: {key: VARCHAR, v: INTEGER}, latest_by: [key]}
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
