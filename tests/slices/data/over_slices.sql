-- Slices over slices whose rows change and vanish: a transfer's newest state, counts, a top three.
--@ source r {columns: {k: VARCHAR, j: INTEGER, i: INTEGER, n: "DECIMAL(18,4)", x: DOUBLE, s: VARCHAR, f: BOOLEAN}}
--@ source wide {columns: {id: INTEGER, v: "DECIMAL(38,18)", b: BIGINT}}
--@ record r {"k":"a","j":1,"i":5,"n":"1.5","s":"x","f":true}
--@ record r {"k":"a","j":2,"i":7,"n":"2.5","s":"y","f":true}
--@ record r {"k":"b","j":1,"i":1,"n":"4","s":"x","f":true}
--@ record r {"k":"a","j":1,"i":9,"n":"10","s":"x","f":false}
--@ slice state
SELECT k, j, i, n, x, s, f FROM r QUALIFY row_number() OVER (PARTITION BY k, j ORDER BY _position DESC) = 1
--@ slice counts key: [k, s]
SELECT k, s, count(*) AS c, sum(i) AS total FROM r GROUP BY k, s
--@ slice lines
SELECT _position AS p, k, i FROM r WHERE i > 0
--@ slice pairs
SELECT k, i FROM r WHERE i > 0
--@ slice medians
SELECT k, median(i) AS m, count(*) AS c FROM r GROUP BY k
--@ slice everything
SELECT count(*) AS c, max(i) AS m FROM r
--@ slice sorted
SELECT k, count(*) AS c FROM r GROUP BY k ORDER BY k LIMIT 100
--@ slice newest key: [id]
SELECT id, v, b FROM wide QUALIFY row_number() OVER (PARTITION BY id ORDER BY _position DESC) = 1
--@ slice texts
SELECT k, s, i, count(*) AS c FROM r GROUP BY ALL

--@ case sums_of_changing_rows aggregate
--@ why takes back and adds the rows of slice state
SELECT k, count(*) AS transfers, sum(n) AS volume, avg(n) AS mean, sum(i) AS whole, avg(i) AS ai FROM state WHERE f GROUP BY ALL
--> a | 1 | 2.5000 | 2.5 | 7 | 7.0
--> b | 1 | 4.0000 | 4.0 | 1 | 1.0

--@ case groups_that_die aggregate
SELECT s, f, count(*) AS c FROM state GROUP BY s, f
--> x | true | 1
--> x | false | 1
--> y | true | 1

--@ case having_and_filter aggregate
SELECT q.k, count(*) FILTER (WHERE q.f) AS yes, sum(q.i) FILTER (WHERE q.f) AS total, sum(q.i) / count(*) AS rate FROM state AS q GROUP BY q.k HAVING count(q.i) > 1 OR yes > 0

--@ case one_group aggregate
SELECT count(*) AS c, sum(i) AS total, count(x) AS xs FROM state
--> 3 | 17 | 0

--@ case one_group_of_nothing aggregate
SELECT count(*) AS c, sum(i) AS total FROM state WHERE i > 1000000

--@ case sums_of_counts aggregate
SELECT k, sum(c) AS c, sum(total) AS total FROM counts GROUP BY k

--@ case expression_keys aggregate
SELECT upper(k) || coalesce(s, '-') AS ks, i % 3 AS m, count(*) AS c FROM state GROUP BY 1, 2

--@ case over_appended_rows aggregate
SELECT k, count(*) AS c, sum(i) AS total FROM lines GROUP BY k

--@ case over_one_row aggregate
SELECT sum(c) AS c FROM everything

--@ case max_is_kept_by_key keys
--@ why replaces the rows of the keys that slice state changes
SELECT k, max(i) AS highest, count(*) AS c FROM state GROUP BY k
--> a | 9 | 2
--> b | 1 | 1

--@ case sums_of_doubles_are_kept_by_key keys
SELECT k, sum(x) AS total, avg(x) AS mean FROM state GROUP BY k

--@ case filter_and_project keys
SELECT k, total * 2 AS twice FROM counts WHERE c > 1
--> a | 28

--@ case filter_without_a_key keys
SELECT s, i + 1 AS next FROM state WHERE f

--@ case window_over_a_slice keys
SELECT k, s, total, row_number() OVER (PARTITION BY k ORDER BY total DESC NULLS LAST, s) AS place FROM counts QUALIFY place <= 2

--@ case ties_go_by_the_key keys
SELECT k, s, c, row_number() OVER (PARTITION BY k ORDER BY c DESC, s) AS place FROM counts

--@ case distinct_over_a_slice keys
SELECT DISTINCT s, f FROM state

--@ case over_medians keys
SELECT m, list(k ORDER BY k) AS ks FROM medians GROUP BY m

--@ case nested keys
SELECT k, max(per) AS most FROM (SELECT k, s, count(*) AS per FROM state GROUP BY k, s) GROUP BY k

--@ case upstream_is_recomputed recompute
--@ why reads slice sorted, which is recomputed
SELECT k, c FROM sorted WHERE c > 1

--@ case no_key recompute
--@ why no key in common
SELECT k, rank() OVER (ORDER BY total DESC, k, s) AS place FROM counts

--@ case newest_by_an_output_that_hides_a_column keys
SELECT DISTINCT ON (c) s, total AS c, k FROM counts ORDER BY c, s, k

--@ case in_order aggregate
--@ why ORDER BY is dropped
SELECT k, count(*) AS c FROM state GROUP BY k ORDER BY c DESC

--@ case maxima_in_order keys
--@ why ORDER BY is dropped
SELECT k, max(i) AS m FROM state GROUP BY k ORDER BY m

-- Of rows of a slice that are equal in what is asked for, the one with the lower key is the first,
-- whichever came or changed last.
--@ case arg_max_ties_go_by_the_columns keys
--@ record r {"k":"a","j":1,"i":5,"s":"x"}
--@ record r {"k":"a","j":2,"i":5,"s":"y"}
--@ record r {"k":"a","j":1,"i":5,"s":"x"}
SELECT k, arg_max(s, i) AS top, min_by(s, i) AS low FROM state GROUP BY k
--> a | x | x

--@ case arg_max_ties_go_by_the_key keys
--@ record r {"k":"a","i":5,"s":"x"}
--@ record r {"k":"a","i":5,"s":"y"}
--@ record r {"k":"b","i":5,"s":"x"}
--@ record r {"k":"a","i":0,"s":"x"}
SELECT c, arg_min(s, total) AS lowest FROM counts GROUP BY c
--> 1 | y
--> 2 | x

--@ case mode_over_a_slice keys
--@ record r {"k":"a","j":1,"i":5,"s":"x"}
--@ record r {"k":"a","j":2,"i":5,"s":"y"}
--@ record r {"k":"a","j":1,"i":5,"s":"x"}
SELECT k, mode(s) AS common FROM state GROUP BY k
--> a | x

--@ case equal_rows_of_windows keys
--@ record r {"k":"a","j":1,"i":5,"s":"x"}
--@ record r {"k":"a","j":2,"i":5,"s":"y"}
--@ record r {"k":"a","j":1,"i":5,"s":"x"}
--@ reference SELECT k, s, row_number() OVER (PARTITION BY k ORDER BY i, k, j, i, n, x, s, f) AS place FROM state
SELECT k, s, row_number() OVER (PARTITION BY k ORDER BY i) AS place FROM state
--> a | x | 1
--> a | y | 2

--@ case equal_rows_above_a_subquery keys
--@ record r {"k":"a","j":1,"i":5,"s":"x"}
--@ record r {"k":"a","j":2,"i":5,"s":"y"}
--@ record r {"k":"a","j":1,"i":5,"s":"x"}
SELECT k, s, place FROM (SELECT k, s, i, lag(s) OVER (PARTITION BY k ORDER BY i) AS place FROM (SELECT k, upper(s) AS s, i FROM state WHERE i > 0))
--> a | X | NULL
--> a | Y | X

--@ case equal_rows_of_a_list keys
--@ record r {"k":"a","j":1,"i":5,"s":"x"}
--@ record r {"k":"a","j":2,"i":5,"s":"y"}
--@ record r {"k":"a","j":1,"i":5,"s":"x"}
--@ reference SELECT k, list(s ORDER BY i, k, j, i, n, x, s, f) AS names FROM state GROUP BY k
SELECT k, list(s ORDER BY i) AS names FROM state GROUP BY k
--> a | [x, y]

--@ case newest_of_equal_rows keys
--@ record r {"k":"a","j":1,"i":5,"s":"x"}
--@ record r {"k":"a","j":2,"i":5,"s":"y"}
--@ record r {"k":"a","j":1,"i":5,"s":"x"}
SELECT DISTINCT ON (k) k, s FROM state ORDER BY k, i
--> a | x

--@ case arg_max_of_all_rows recompute
--@ record r {"k":"a","j":1,"i":5,"s":"x"}
--@ record r {"k":"a","j":2,"i":5,"s":"y"}
--@ record r {"k":"a","j":1,"i":5,"s":"x"}
SELECT arg_max(s, i) AS top FROM state
--> x

--@ case recomputed_with_a_query_of_the_same_name recompute
--@ record r {"k":"a","j":1,"i":5,"s":"x"}
--@ record r {"k":"a","j":2,"i":5,"s":"y"}
--@ record r {"k":"a","j":1,"i":5,"s":"x"}
WITH state AS (SELECT s, i FROM state WHERE i > 1) SELECT s, row_number() OVER (ORDER BY i) AS place FROM state -- of all
--> x | 1
--> y | 2

--@ case groups_have_no_order recompute
--@ why aggregates groups in an order that they do not have
SELECT n, arg_max(s, m) AS top FROM (SELECT s, count(*) AS n, max(i) AS m FROM r GROUP BY s) GROUP BY n

--@ case equal_rows_of_a_part keys
SELECT i, arg_max(upper(s), j) AS top FROM (SELECT i, s, j FROM r QUALIFY row_number() OVER (PARTITION BY k ORDER BY _position DESC) <= 3) GROUP BY i

--@ case peers_of_a_list recompute
--@ why list() over rows that may be equal
SELECT k, s, list(s ORDER BY j) OVER (PARTITION BY k) AS names, last_value(s) OVER (PARTITION BY k ORDER BY i) AS newest FROM state

--@ case with_named_as_the_slice keys
WITH state AS (SELECT * FROM state WHERE f) SELECT k, count(*) AS c FROM state GROUP BY k
--> a | 1
--> b | 1

-- All that came is too much for the type, what is left is not.
--@ case sums_of_large_values_that_take_turns aggregate
--@ no random
--@ record wide {"id":1,"v":"60000000000000000000","b":-9223372036854775808}
--@ record wide {"id":1,"v":"60000000000000000001","b":-9223372036854775808}
--@ record wide {"id":1,"v":"60000000000000000002","b":9223372036854775807}
--@ record wide {"id":2,"v":"1","b":1}
SELECT count(*) AS n, sum(v) AS s, avg(v) AS m, sum(b) AS b FROM newest
--> 2 | 60000000000000000003.000000000000000000 | 3.0000000000000004e+19 | 9223372036854775808

-- A key that fails on what a filter drops: over a slice, whose rows all are asked for theirs.
--@ case guarded_key_over_a_slice keys
--@ no random
--@ record r {"k":"num","s":"1","i":2}
--@ record r {"k":"text","s":"abc","i":3}
--@ record r {"k":"num","s":"1","i":4}
--@ quarantined 0
WITH t AS (SELECT * FROM texts) SELECT CAST(s AS INTEGER) AS n, median(i) AS m FROM t WHERE k = 'num' GROUP BY n
--> 1 | 3.0

--@ case guarded_key_over_a_slice_of_which_the_first_row_counts keys
--@ no random
--@ record r {"k":"num","s":"1","i":2}
--@ record r {"k":"text","s":"abc","i":3}
--@ record r {"k":"num","s":"1","i":4}
--@ quarantined 0
SELECT CAST(s AS INTEGER) AS n, arg_max(k, i) AS m FROM texts WHERE k = 'num' GROUP BY n
--> 1 | num

--@ case whole_rows_in_a_key recompute
--@ why takes whole rows by the name of their relation
SELECT md5(CAST(u AS VARCHAR)) AS h, count(*) AS c FROM state AS u GROUP BY 1

--@ case whole_rows_by_key recompute
SELECT k, max(to_json(u)) AS doc FROM state AS u GROUP BY k

--@ case star_beside_aggregates recompute
--@ why has * beside aggregates
SELECT *, k AS again, arg_max(i, k) AS one FROM pairs GROUP BY ALL

-- What is counted need not be computed, and would leave the range of its type.
--@ case counts_of_what_overflows aggregate
--@ no random
--@ record r {"k":"a","j":1,"i":2147483647}
--@ record r {"k":"a","j":2,"i":1}
--@ record r {"k":"b","j":1,"i":-2147483648}
SELECT k, count(i + 1) AS c, count(i * 2 - j) FILTER (WHERE s IS NULL) AS p, count(-i) FILTER (WHERE k IS NULL) AS m FROM state GROUP BY k
--> a | 2 | 2 | 0
--> b | 1 | 1 | 0
