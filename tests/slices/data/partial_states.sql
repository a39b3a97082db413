-- Every aggregate whose state is folded, and DISTINCT.
--@ source r {columns: {k: VARCHAR, j: INTEGER, i: INTEGER, b: BIGINT, n: "DECIMAL(18,4)", x: DOUBLE, s: VARCHAR, t: TIMESTAMP, f: BOOLEAN}}
--@ record r {"k":"a","i":3,"x":1,"s":"u","f":true}
--@ record r {"k":"a","i":1,"x":2,"s":"v","f":false}
--@ record r {"k":null,"i":7,"x":5,"s":"w"}
--@ record r {"k":"a","i":3,"x":4,"s":"x","f":true}
--@ record r {"k":"b"}

--@ case count_distinct aggregate
--@ why 1 table of distinct values
SELECT k, count(DISTINCT i) AS n FROM r GROUP BY k
--> a | 2
--> NULL | 1
--> b | 0

--@ case sum_and_avg_distinct aggregate
SELECT k, count(*) AS c, sum(DISTINCT i) AS s, avg(DISTINCT i) AS m, sum(i) AS si FROM r GROUP BY k
--> a | 3 | 4 | 2.0 | 7
--> NULL | 1 | 7 | 7.0 | 7
--> b | 1 | NULL | NULL | NULL

--@ case distinct_of_two_columns aggregate
SELECT k, count(DISTINCT i) AS di, count(DISTINCT s) AS ds, count(DISTINCT n) AS dn FROM r GROUP BY k

--@ case distinct_with_filters aggregate
SELECT j, count(DISTINCT s) FILTER (WHERE f) AS yes, count(DISTINCT s) FILTER (WHERE NOT f) AS nope, count(DISTINCT s) AS whole FROM r WHERE i > 0 GROUP BY j

--@ case distinct_without_groups aggregate
SELECT count(DISTINCT k) AS kinds, sum(DISTINCT i) AS s FROM r
--> 2 | 11

--@ case distinct_beside_others_without_groups aggregate
SELECT count(*) AS c, count(DISTINCT i) AS d, max(x) AS most FROM r HAVING count(*) > 0
--> 5 | 3 | 5.0

--@ case distinct_changes_nothing aggregate
SELECT k, min(DISTINCT i) AS lo, max(DISTINCT i) AS hi FROM r GROUP BY k
--> a | 1 | 3
--> NULL | 7 | 7
--> b | NULL | NULL

--@ case distinct_struct aggregate
SELECT k, count(DISTINCT {'i': i, 's': s}) AS pairs FROM r GROUP BY k

--@ case stddev aggregate
SELECT k, stddev(x) AS a, stddev_samp(i) AS b, stddev_pop(x) AS c FROM r GROUP BY k

--@ case variance aggregate
SELECT k, variance(x) AS a, var_samp(i) AS b, var_pop(x) AS c, sem(x) AS d FROM r GROUP BY k

--@ case variance_of_far_numbers aggregate
SELECT j, var_pop(b) AS a, stddev(n) AS c, avg(b) AS d FROM r GROUP BY j

--@ case variance_without_groups aggregate
SELECT var_samp(x) AS v, stddev_pop(x) AS s FROM r WHERE k = 'a'

--@ case variance_distinct aggregate
SELECT k, var_pop(DISTINCT i) AS v FROM r GROUP BY k

--@ case booleans aggregate
SELECT k, bool_and(f) AS every, bool_or(f) AS some, bool_and(i > 0) AS positive FROM r GROUP BY k
--> a | false | true | true
--> NULL | NULL | NULL | true
--> b | NULL | NULL | NULL

--@ case bits aggregate
SELECT k, bit_and(i) AS a, bit_or(i) AS o, bit_xor(i) AS x, bit_xor(b) AS y FROM r GROUP BY k
--> a | 1 | 3 | 1 | NULL
--> NULL | 7 | 7 | 7 | NULL
--> b | NULL | NULL | NULL | NULL

--@ case count_if aggregate
SELECT k, count_if(f) AS yes, countif(i > 2) AS big FROM r GROUP BY k
--> a | 2 | 2
--> NULL | NULL | 1
--> b | NULL | NULL

--@ case arg_min_and_arg_max aggregate
SELECT k, arg_max(s, i) AS hi, arg_min(s, i) AS lo, max_by(s, x) AS by_x, min_by(i, t) AS by_t FROM r GROUP BY k
--> a | u | v | x | NULL
--> NULL | w | w | w | NULL
--> b | NULL | NULL | NULL | NULL

--@ case arg_max_null aggregate
SELECT k, arg_max_null(f, i) AS hi, arg_min_null(n, i) AS lo FROM r GROUP BY k
--> a | true | NULL
--> NULL | NULL | NULL
--> b | NULL | NULL

--@ case arg_max_filtered aggregate
SELECT k, arg_max(s, x) FILTER (WHERE f) AS hi, arg_max(x, s) FILTER (WHERE i > 1) AS x FROM r GROUP BY k

--@ case arg_max_of_struct aggregate
SELECT k, arg_max({'s': s, 'i': i}, x) AS newest FROM r GROUP BY k

--@ case latest_values aggregate
SELECT k, arg_max(s, _position) AS latest, max(_position) AS at FROM r GROUP BY k
--> a | x | 3
--> NULL | w | 2
--> b | NULL | 4

--@ case first_and_last_by_position aggregate
SELECT k, first(s ORDER BY _position) AS f, last(s ORDER BY _position) AS l, any_value(f ORDER BY _position) AS a FROM r GROUP BY k
--> a | u | x | true
--> NULL | w | w | NULL
--> b | NULL | NULL | NULL

--@ case first_descending aggregate
SELECT k, first(i ORDER BY _position DESC) AS f, last(i ORDER BY _position DESC) AS l FROM r GROUP BY k

--@ case first_without_groups aggregate
SELECT first(k ORDER BY _position) AS f, last(i ORDER BY _position) FILTER (WHERE i IS NOT NULL) AS l FROM r
--> a | 3

--@ case product_is_not_folded keys
SELECT k, product(x) AS p FROM r GROUP BY k

--@ case extremes_of_hugeint_and_interval aggregate
SELECT k, max(b::HUGEINT * 1000000) AS h, min(to_days(i)) AS d, max(s::BLOB) AS bl FROM r GROUP BY k

--@ case hugeint_sums aggregate
SELECT k, sum(b * 1000) AS s, sum(b::HUGEINT) AS h, avg(b) AS m FROM r GROUP BY k

--@ case struct_key aggregate
SELECT {'k': k, 'j': j} AS kj, count(*) AS n FROM r GROUP BY 1

--@ case last_of_equal_ones aggregate
SELECT k, last(s ORDER BY j) AS a, last(s ORDER BY j DESC) AS b, first(s ORDER BY j DESC) AS c, last(i ORDER BY f NULLS FIRST) AS d, last(i ORDER BY x DESC NULLS FIRST) AS e, any_value(i ORDER BY f DESC) AS f FROM r GROUP BY k
--> a | u | u | u | 3 | 3 | 3
--> NULL | w | w | w | 7 | 7 | 7
--> b | NULL | NULL | NULL | NULL | NULL | NULL

--@ case last_of_equal_ones_in_all aggregate
SELECT last(i ORDER BY f) AS a, last(i ORDER BY k DESC NULLS LAST) AS b, last(j ORDER BY s) AS c FROM r

--@ case last_of_equal_ones_by_keys keys
SELECT k, last(s ORDER BY j) AS a, last(s ORDER BY j, f DESC) AS b, median(i) AS m FROM r GROUP BY k
--> a | u | v | 3.0
--> NULL | w | w | 7.0
--> b | NULL | NULL | NULL

--@ case last_by_a_key_of_the_group keys
SELECT k, last(s ORDER BY k) AS a FROM r GROUP BY k
--> a | x
--> NULL | w
--> b | NULL

--@ case last_by_a_key_of_all_groups keys
SELECT k, last(s ORDER BY k) AS a, median(i) AS m FROM r GROUP BY ALL
