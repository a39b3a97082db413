-- Aggregates that are folded batch by batch.
--@ source r {columns: {k: VARCHAR, j: INTEGER, i: INTEGER, b: BIGINT, n: "DECIMAL(18,4)", x: DOUBLE, s: VARCHAR, t: TIMESTAMP, z: TIMESTAMPTZ, d: DATE, f: BOOLEAN}}
--@ source lists {columns: {k: VARCHAR, l: "INTEGER[]", m: "INTEGER[]"}}
--@ slice last_lists
SELECT k, l, m FROM lists QUALIFY row_number() OVER (PARTITION BY k ORDER BY _position DESC) = 1

--@ case count_by_key aggregate
SELECT k, count(*) AS n FROM r GROUP BY k

--@ case distinct_star aggregate
--@ record lists {"k":"a","l":[1]}
--@ record lists {"k":"a","l":[1]}
SELECT DISTINCT * FROM lists
--> a | [1] | NULL

--@ case counts_sums_extremes_by_two_keys aggregate
SELECT k, j, count(*), count(i), sum(i), min(i), max(i), avg(i) FROM r GROUP BY ALL

--@ case bigint_group_by_position aggregate
SELECT k, sum(b), avg(b), min(b), max(b) FROM r GROUP BY 1

--@ case decimal_exact aggregate
SELECT k, sum(n) AS total, avg(n) AS mean, min(n), max(n) FROM r GROUP BY k

--@ case decimal_expressions aggregate
SELECT j, sum(n * 3), avg(n / 2.0::DECIMAL(5,1)), sum(n::DECIMAL(30,10)) AS w, avg(n::DECIMAL(30,10)) AS a FROM r GROUP BY j

--@ case doubles aggregate
SELECT k, sum(x), avg(x), min(x), max(x), mean(x::FLOAT) FROM r GROUP BY ALL

--@ case extremes_of_all_types aggregate
SELECT k, min(s), max(s), min(t), max(t), min(z), max(z), min(d), max(d), min(f), max(f) FROM r GROUP BY ALL

--@ case filter_and_alias_keys aggregate
SELECT date_trunc('day', t) AS day, k, count(*) FILTER (WHERE i > 15) AS late, sum(i) FILTER (WHERE f) AS fs FROM r GROUP BY day, k

--@ case time_bucket_and_where aggregate
SELECT time_bucket(INTERVAL 6 HOUR, t) AS bucket, count(*) AS n FROM r WHERE x > 1e0 GROUP BY ALL

--@ case having_by_alias aggregate
SELECT k, count(*) AS cnt, sum(i) AS total FROM r GROUP BY k HAVING cnt > 20 AND sum(i) > 0

--@ case having_with_null_key aggregate
SELECT k, sum(i) AS total FROM r GROUP BY k HAVING avg(i) > 1.5 OR k IS NULL

--@ case expressions_over_aggregates aggregate
SELECT k, sum(i)::DOUBLE / count(*) AS rate, sum(x) / nullif(count(x), 0) AS r2, CASE WHEN count(*) > 10 THEN 'many' ELSE 'few' END AS size FROM r GROUP BY k

--@ case key_expression aggregate
SELECT upper(k) || '-' || coalesce(j, 0)::VARCHAR AS kj, sum(i) FROM r GROUP BY 1

--@ case alias_of_alias aggregate
SELECT k, count(*) AS cnt, cnt + 1 AS more, max(i) - min(i) AS spread FROM r GROUP BY k

--@ case no_group_by aggregate
SELECT count(*), count(i), sum(i), sum(n), avg(n), min(s), max(t), avg(x), sum(x) FROM r

--@ case no_group_by_having aggregate
SELECT count(*) AS n FROM r HAVING count(*) > 100

--@ case filters_that_nothing_passes aggregate
SELECT count(*) FILTER (WHERE k = 'none') AS none, sum(i) FILTER (WHERE k = 'none') AS nothing FROM r

--@ case keys_only aggregate
SELECT k FROM r GROUP BY k

--@ case qualified_names aggregate
SELECT f, q.k AS key, count(*) AS n FROM r AS q WHERE q.j IS NOT NULL AND q.k <> 'c' GROUP BY q.f, q.k

--@ case alias_hides_a_column aggregate
SELECT k AS s, min(s) AS first_s FROM r GROUP BY k

--@ case modulo_key aggregate
SELECT i % 7 AS m, sum(CASE WHEN f THEN 1 ELSE 0 END) AS yes, sum(f::INTEGER) AS yes2, sum(f) AS yes3 FROM r GROUP BY i % 7

--@ case double_key aggregate
SELECT x AS key, count(*) FROM r GROUP BY x

--@ case alias_named_as_its_column aggregate
SELECT date_trunc('day', t) AS t, count(*) AS n FROM r GROUP BY ALL

--@ case extract_keys aggregate
SELECT extract(year FROM t) AS y, extract(hour FROM z) AS h, sum(x * 1.5e0) AS sx FROM r GROUP BY ALL

--@ case constants_beside_keys aggregate
SELECT k, 'label' AS label, 7 AS seven, count(*) AS n FROM r GROUP BY ALL

--@ case constant_and_count aggregate
SELECT 'only' AS label, count(*) AS n FROM r GROUP BY ALL

--@ case functions_over_aggregates aggregate
SELECT k, greatest(max(i), 3) AS g, round(avg(i), 2) AS a2, sum(i) BETWEEN 1 AND 100 AS mid, max(s) IN ('s1', 's9') AS has FROM r GROUP BY k

--@ case aggregate_of_a_key aggregate
SELECT j, sum(j) AS sj, max(j + i) AS mji FROM r GROUP BY j

--@ case hidden_columns aggregate
SELECT k, min(_position) AS first_pos, max(_time) AS last_seen, count(_key) AS keys FROM r GROUP BY k

--@ case quoted_aliases aggregate
SELECT k, count(*) AS "count", sum(i) AS "Sum of i", max(s) AS "größte" FROM r GROUP BY k

--@ case json_key aggregate
SELECT json_extract_string(_payload, '$.a') AS a, count(*) FROM r GROUP BY 1

--@ case condition_as_key aggregate
SELECT (i IS NULL) AS missing, count(*) FROM r GROUP BY i IS NULL

--@ case where_false aggregate
SELECT min(i) AS lo FROM r WHERE false

--@ case averages_that_need_38_digits aggregate
SELECT k, avg((n * 100000000000000)::DECIMAL(38,18)) AS a FROM r GROUP BY k

-- Figures that were worked out by hand.
--@ case figures_by_key aggregate
--@ record r {"k":"a","i":3,"n":"1.2500","x":1}
--@ record r {"k":"b","i":-7,"n":"0.1000","x":2}
--@ record r {"k":"a","i":1,"n":"2.5001","x":4}
--@ record r {"k":"a","n":"-0.7501","x":1}
--@ record r {"i":5}
SELECT k, count(*) AS records, count(i) AS given, sum(i) AS total, min(i) AS least, max(i) AS most, avg(i) AS mean, sum(n) AS exact, avg(n) AS exact_mean FROM r GROUP BY k
--> a | 3 | 2 | 4 | 1 | 3 | 2.0 | 3.0000 | 1.0
--> b | 1 | 1 | -7 | -7 | -7 | -7.0 | 0.1000 | 0.1
--> NULL | 1 | 1 | 5 | 5 | 5 | 5.0 | NULL | NULL

--@ case figures_of_all aggregate
--@ record r {"k":"a","i":3,"f":true}
--@ record r {"k":"b","i":-7,"f":false}
--@ record r {"k":"a","i":1,"f":true}
SELECT count(*) FILTER (WHERE f) AS yes, sum(i) * 2 + count(*) AS computed, count(DISTINCT k) AS keys, bool_and(f) AS all_of_them, bool_or(f) AS one_of_them, arg_max(k, i) AS top, first(k ORDER BY _position) AS head FROM r
--> 2 | -3 | 2 | false | true | a | a

--@ case figures_by_hour aggregate
--@ record r {"k":"a","t":"2001-01-01T10:05:00","i":1}
--@ record r {"k":"a","t":"2001-01-01T10:59:59","i":2}
--@ record r {"k":"a","t":"2001-01-01T11:00:00","i":4}
--@ record r {"k":"a","t":"2001-01-01T11:30:00","i":-4}
SELECT time_bucket(INTERVAL 1 HOUR, t) AS hour, sum(i) AS total FROM r WHERE i > 0 GROUP BY ALL HAVING sum(i) < 4
--> 2001-01-01 10:00:00 | 3

--@ case figures_of_spread aggregate
--@ record r {"k":"a","x":2}
--@ record r {"k":"a","x":4}
--@ record r {"k":"a","x":4}
--@ record r {"k":"a","x":4}
--@ record r {"k":"a","x":5}
--@ record r {"k":"a","x":5}
--@ record r {"k":"a","x":7}
--@ record r {"k":"a","x":9}
SELECT k, round(stddev_pop(x), 9) AS deviation, round(var_pop(x), 9) AS variance FROM r GROUP BY k
--> a | 2.0 | 4.0

--@ case counts_of_arithmetic aggregate
--@ record r {"k":"a","i":1,"j":2,"x":0.5,"f":true}
--@ record r {"k":"a","i":1,"f":true}
--@ record r {"k":"a","j":2}
--@ record r {"k":"a","i":3,"j":2}
SELECT k, count(i + 1), count(i + j), count(-i * i) FILTER (WHERE f) AS own, count(abs(j) - x + NULL) AS none, count(2 * (x - i)) AS xi, count(DISTINCT i + 1) AS d, count(1 + 1) AS all_of_them FROM r GROUP BY k
--> a | 3 | 2 | 2 | 0 | 1 | 2 | 4

-- Of lists, + passes over NULL, and makes an empty list of two.
--@ case counts_of_joined_lists aggregate
--@ record lists {"k":"a","m":[1]}
--@ record lists {"k":"b","l":[1],"m":[2]}
--@ record lists {"k":"c","l":[3]}
--@ record lists {"k":"d"}
SELECT k IS NULL AS no_key, count(l + m) AS c, count(l + [1]) AS one FROM lists GROUP BY 1
--> false | 4 | 4

--@ case counts_of_joined_lists_of_changing_rows aggregate
--@ record lists {"k":"a","m":[1]}
--@ record lists {"k":"b","l":[1],"m":[2]}
--@ record lists {"k":"c","l":[3]}
--@ record lists {"k":"d"}
SELECT count(l + m) AS c, count(l) AS l FROM last_lists
--> 4 | 2

--@ case counts_of_joined_lists_run_again recompute
--@ record lists {"k":"a","m":[1]}
--@ record lists {"k":"b","l":[1],"m":[2]}
--@ record lists {"k":"c","l":[3]}
--@ record lists {"k":"d"}
SELECT count(l + m) AS c, median(len(m)) AS m FROM lists
--> 4 | 1.0
