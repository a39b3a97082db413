-- Queries whose rows each come from one record, in shapes beyond a plain SELECT.
--@ source r {columns: {k: VARCHAR, j: INTEGER, i: INTEGER, s: VARCHAR, f: BOOLEAN}}
--@ source q {columns: {k: VARCHAR, i: INTEGER}}
--@ source documents {columns: {k: VARCHAR, v: JSON}}
--@ record r {"k":"a","i":1,"j":5}
--@ record q {"k":"a","i":2}
--@ record r {"k":"b","i":3}
--@ record r {"k":"a","i":1,"j":5}

--@ case select_distinct aggregate
SELECT DISTINCT k, i FROM r
--> a | 1
--> b | 3

--@ case select_distinct_star aggregate
SELECT DISTINCT * FROM r ORDER BY ALL
--@ why ORDER BY is dropped

--@ case select_distinct_unnest aggregate
SELECT DISTINCT k, unnest([i, j]) AS v FROM r

--@ case subquery_in_from aggregate
SELECT k, f, count(*) AS n FROM (SELECT k, unnest([i, j]) AS f FROM r) GROUP BY ALL
--> a | 1 | 2
--> a | 5 | 2
--> b | 3 | 1
--> b | NULL | 1

--@ case nested_subqueries aggregate
SELECT a.up, sum(a.twice) AS s FROM (SELECT upper(k) AS up, i * 2 AS twice FROM (SELECT * FROM r WHERE i > 0)) AS a GROUP BY a.up
--> A | 4
--> B | 6

--@ case subquery_appended append
SELECT x.k, x.v FROM (SELECT k, i + 1 AS v FROM r WHERE f IS NULL) AS x WHERE x.v > 2
--> b | 4

--@ case with_once aggregate
WITH c AS (SELECT k, i FROM r WHERE i IS NOT NULL) SELECT k, sum(i) AS s FROM c GROUP BY k
--> a | 2
--> b | 3

--@ case with_chain append
WITH c AS (SELECT k, i FROM r), d(name, v) AS (SELECT k, i + 1 FROM c WHERE i > 1) SELECT name, v FROM d
--> b | 4

--@ case with_named_as_the_source aggregate
WITH r AS (SELECT k FROM r WHERE i > 1) SELECT k, count(*) AS n FROM r GROUP BY k
--> b | 1

--@ case renamed_columns aggregate
SELECT z.a, max(z.c) AS m FROM r AS z(a, b, c, d, e) GROUP BY z.a
--> a | 1
--> b | 3

--@ case union_all append
SELECT k, i FROM r UNION ALL SELECT k, i FROM q
--> a | 1
--> a | 1
--> a | 2
--> b | 3

--@ case union_all_grouped aggregate
SELECT k, sum(i) AS s, count(*) AS n FROM (SELECT k, i FROM r UNION ALL SELECT k, i FROM q) GROUP BY k
--> a | 4 | 3
--> b | 3 | 1

--@ case union_all_by_name aggregate
SELECT k, count(s) AS s, count(i) AS n FROM (SELECT k, s FROM r UNION ALL BY NAME SELECT i, k FROM q) GROUP BY k

--@ case union_all_of_one_source append
SELECT k, i AS v FROM r UNION ALL SELECT k, j FROM r WHERE j > 0

--@ case union_all_in_with aggregate
WITH u AS (SELECT k, i FROM r UNION ALL SELECT k, i FROM q WHERE i > 1) SELECT count(*) AS n, sum(i) AS s FROM u
--> 4 | 7

--@ case order_by_is_dropped append
--@ why ORDER BY is dropped
SELECT k, i * 1e3 AS thousand FROM r ORDER BY i DESC, k
--> a | 1000.0
--> a | 1000.0
--> b | 3000.0

--@ case grouped_order_by_is_dropped aggregate
--@ why ORDER BY is dropped
SELECT k, count(*) AS n FROM r GROUP BY k ORDER BY n DESC
--> a | 2
--> b | 1

--@ case lateral_unnest aggregate
SELECT r.k, u.v, count(*) AS n FROM r, unnest([r.i, r.j]) AS u(v) GROUP BY r.k, u.v

--@ case join_with_constants append
SELECT r.k, w.name FROM r JOIN (VALUES (1, 'one'), (3, 'three')) AS w(i, name) ON w.i = r.i
--> a | one
--> a | one
--> b | three

--@ case left_join_with_constants append
SELECT r.k, w.name FROM r LEFT JOIN (VALUES (1, 'one')) AS w(i, name) ON w.i = r.i
--> a | one
--> a | one
--> b | NULL

--@ case constants_with_query aggregate
WITH p AS (SELECT 2 AS factor) SELECT r.k, sum(r.i * p.factor) AS s FROM r, p GROUP BY r.k
--> a | 4
--> b | 6

--@ case subquery_of_the_row append
SELECT k FROM r WHERE EXISTS (SELECT 1 FROM unnest([r.i, r.j]) AS u(v) WHERE u.v > 4)
--> a
--> a

--@ case arg_max_over_union
--@ why several sources do not have
SELECT k, arg_max(i, i) AS m FROM (SELECT k, i FROM r UNION ALL SELECT k, i FROM q) GROUP BY k

--@ case union_with_constants recompute
--@ why reads no source
SELECT k, i FROM r UNION ALL SELECT 'x', 1

--@ case collate_in_subquery
--@ why COLLATE
SELECT k, count(*) AS n FROM (SELECT k COLLATE NOCASE AS k FROM r) GROUP BY k

-- The constant is joined to one record of all; a record, to one constant, whatever else there is.
--@ case asof_from_constants recompute
SELECT c.x, r.i FROM (VALUES (2), (4)) AS c(x) ASOF JOIN (SELECT i FROM r GROUP BY i) AS r ON c.x >= r.i
--> 2 | 1
--> 4 | 3

--@ case asof_from_constants_to_records recompute
--@ why has a join: ASOF
SELECT c.x, r.i FROM (VALUES (3)) AS c(x) ASOF JOIN r ON c.x >= r.i
--> 3 | 3

--@ case grouped_asof_from_constants recompute
SELECT c.x, max(r.i) AS m, count(*) AS n FROM (VALUES (2), (3)) AS c(x) ASOF JOIN r ON c.x >= r.i GROUP BY c.x
--> 2 | 1 | 1
--> 3 | 3 | 1

--@ case asof_to_constants append
SELECT r.k, r.i, c.x FROM r ASOF JOIN (VALUES (0), (2)) AS c(x) ON r.i >= c.x
--> a | 1 | 0
--> a | 1 | 0
--> b | 3 | 2

--@ case natural_join_with_constants append
SELECT k, name FROM r NATURAL JOIN (VALUES (1, 'one'), (3, 'three')) AS w(i, name)
--> a | one
--> a | one
--> b | three

--@ case lateral_query append
SELECT r.k, l.v FROM r JOIN LATERAL (SELECT r.i + 1 AS v) AS l ON true
--> a | 2
--> a | 2
--> b | 4

--@ case json_of_aggregates aggregate
SELECT k, to_json({'n': count(*), 'Total': sum(i), 'k': k}) AS j FROM r GROUP BY k
--> a | {"n":2,"Total":2,"k":"a"}
--> b | {"n":1,"Total":3,"k":"b"}

--@ case struct_of_aggregates aggregate
SELECT k, {'n': count(*), 'total': sum(i)} AS both FROM r GROUP BY k

--@ case struct_key_of_other_names aggregate
SELECT {'key': k, 'part': j} AS kj, count(*) AS n FROM r GROUP BY 1

--@ case json_key_by_sets
SELECT to_json({'key': k}) AS a, to_json({'other': k}) AS b, count(*) AS n FROM r GROUP BY ROLLUP (to_json({'key': k}), to_json({'other': k}))

--@ case members_of_json_keep_their_case aggregate
--@ no random
--@ record documents {"k":"a","v":{"userId":7}}
--@ record documents {"k":"a","v":{"userId":7,"userid":1}}
SELECT v.userId AS u, count(*) AS n FROM (SELECT k, CAST(v AS JSON) AS v FROM documents) WHERE v.userId IS NOT NULL GROUP BY ALL
--> 7 | 2

--@ case members_of_json_by_sets aggregate
--@ no random
--@ record documents {"k":"a","v":{"userId":7}}
--@ record documents {"k":"a","v":{"userId":7,"userid":1}}
SELECT v.userId AS u, count(*) AS n FROM (SELECT k, CAST(v AS JSON) AS v FROM documents) GROUP BY ROLLUP (v.userId)
--> 7 | 2
--> NULL | 2

--@ case a_subquery_that_aggregates_what_is_in_the_record append
SELECT k, (SELECT max(t.v) FROM unnest([r.i, r.j]) AS t(v)) AS m FROM r
--> a | 5
--> b | 3
--> a | 5

-- Names and aggregates of a subquery are its own where it has them, those of the query around it else.
--@ case an_aggregate_in_a_subquery_without_from recompute
SELECT (SELECT sum(i)) AS total FROM r
--> 5

--@ case an_aggregate_in_a_subquery_of_something_else recompute
SELECT (SELECT sum(r.i) FROM (VALUES (1)) AS z(q)) AS total FROM r
--> 5

--@ case an_aggregate_in_a_list_of_a_subquery recompute
SELECT list_sum([(SELECT sum(i))]) AS total FROM r
--> 5

--@ case an_aggregate_in_exists recompute
SELECT EXISTS (SELECT sum(i)) AS e FROM r
--> true

--@ case distinct_sums_in_a_subquery recompute
SELECT DISTINCT (SELECT sum(i)) AS total FROM r
--> 5

--@ case a_sum_of_a_subquery_inside recompute
SELECT total FROM (SELECT (SELECT sum(i)) AS total FROM r)
--> 5

--@ case a_subquery_that_names_what_the_query_has recompute
SELECT k, count(*) AS n, (SELECT max(i) FROM (SELECT 5 AS i)) AS m FROM r GROUP BY k
--> a | 2 | 5
--> b | 1 | 5

--@ case a_column_of_both_in_a_sum recompute
SELECT k, sum((SELECT r.i * i FROM (SELECT 5 AS i))) AS m FROM r GROUP BY k
--> a | 10
--> b | 15

--@ case an_output_named_as_a_column_of_a_subquery recompute
SELECT k, count(*) AS n, (SELECT n FROM (SELECT 7 AS n)) AS seven FROM r GROUP BY k
--> a | 2 | 7
--> b | 1 | 7

-- ORDER BY that aggregates makes one row, which is more than an order.
--@ case ordered_by_an_aggregate recompute
SELECT 1 AS one FROM r ORDER BY sum(i)
--> 1

--@ case groups_ordered_by_an_aggregate aggregate
SELECT k, count(*) AS n FROM r GROUP BY k ORDER BY sum(i)
--> a | 2
--> b | 1

--@ case a_column_that_is_named_rowid append
SELECT rowid AS n, k FROM (SELECT i AS rowid, k FROM r)
--> 1 | a
--> 3 | b
--> 1 | a
