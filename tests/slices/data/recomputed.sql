-- What is run again over everything, and why.
--@ source r {columns: {k: VARCHAR, j: INTEGER, i: INTEGER, b: BIGINT, n: "DECIMAL(18,4)", x: DOUBLE, s: VARCHAR, t: TIMESTAMP, z: TIMESTAMPTZ, d: DATE, f: BOOLEAN}}
--@ source other {columns: {key: VARCHAR, v: JSON}}
--@ source dim {columns: {key: VARCHAR, v: INTEGER}, latest_by: [key]}
--@ slice counts
SELECT k, count(*) AS n FROM r GROUP BY k

--@ case count_distinct recompute
--@ why DISTINCT
SELECT k, count(DISTINCT i) FROM r GROUP BY k

--@ case select_distinct recompute
--@ why DISTINCT
SELECT DISTINCT k FROM r

--@ case order_by recompute
--@ why ORDER BY
SELECT k, i FROM r ORDER BY i

--@ case order_by_limit recompute
--@ why ORDER BY
SELECT k, i FROM r ORDER BY i LIMIT 3

--@ case median recompute
--@ why median
SELECT k, median(i) FROM r GROUP BY k

--@ case list recompute
--@ why ORDER BY
SELECT k, list(i ORDER BY _position) FROM r GROUP BY k

--@ case window recompute
--@ why window
SELECT k, sum(i) OVER (PARTITION BY k ORDER BY _position) FROM r

--@ case qualify recompute
--@ why window
SELECT k FROM r QUALIFY row_number() OVER (PARTITION BY k ORDER BY _position) = 1

--@ case scalar_subquery recompute
--@ why subquery
SELECT k FROM r WHERE i = (SELECT max(i) FROM r)

--@ case subquery_in_from recompute
--@ why subquery
SELECT k, n FROM (SELECT k, count(*) AS n FROM r GROUP BY k)

--@ case with recompute
--@ why WITH
WITH c AS (SELECT k FROM r) SELECT * FROM c

--@ case union_all recompute
--@ why UNION
SELECT k FROM r UNION ALL SELECT s FROM r

--@ case self_join recompute
--@ why join
SELECT a.k FROM r AS a JOIN r AS b ON a._position = b._position

--@ case rollup recompute
--@ why ROLLUP
SELECT k, j, count(*) FROM r GROUP BY ROLLUP (k, j)

--@ case join recompute
--@ why several sources
SELECT r.k, o.v FROM r, other AS o WHERE o.key = r.k

--@ case dimension recompute
--@ why dimension
SELECT v, count(*) FROM dim GROUP BY v

--@ case upstream recompute
--@ why reads slice
SELECT k, n FROM counts WHERE n > 1

--@ case no_source recompute
--@ why no source
SELECT 1 AS one

--@ case avg_of_timestamp recompute
--@ why avg() of TIMESTAMP
SELECT k, avg(t) FROM r GROUP BY k

--@ case lambda recompute
--@ why lambda
SELECT k, list_transform([1], lambda v: v + 1) AS l, count(*) FROM r GROUP BY ALL

--@ case unnest_beside_aggregate recompute
--@ why unnest
SELECT unnest([1, 2]) AS u, count(*) FROM r GROUP BY ALL

--@ case max_of_list recompute
--@ why max() of
SELECT k, max([i]) FROM r GROUP BY k

--@ case arg_max recompute
--@ why arg_max
SELECT k, arg_max(i, t) FROM r GROUP BY k

--@ case having_names_column_and_output recompute
--@ why HAVING names n
SELECT k, count(*) AS n FROM r GROUP BY k HAVING n > 20

--@ case collate_key recompute
--@ why COLLATE
SELECT k COLLATE NOCASE AS kk, count(*) FROM r GROUP BY 1

--@ case collate_argument recompute
--@ why COLLATE
SELECT k, max(s COLLATE NOCASE) AS m FROM r GROUP BY k

--@ case struct_of_aggregates recompute
--@ why same types
SELECT k, {'n': count(*)} AS st FROM r GROUP BY k

--@ case replaces_all_rows recompute
--@ record r {"k":"a","i":1}
--@ record r {"k":"a","i":3}
SELECT k, median(i) AS m FROM r GROUP BY k
--> a | 2.0
