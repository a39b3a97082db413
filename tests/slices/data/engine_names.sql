-- Output columns with the names of what the engine keeps beside them.
--@ source n {columns: {k: VARCHAR, i: INTEGER, t: TIMESTAMP}}
--@ source m {columns: {k: VARCHAR, j: INTEGER}}
--@ record n {"k":"a","i":1,"t":"2000-01-01T00:00:01"}
--@ record n {"k":"b","i":2,"t":"2000-01-01T00:00:02"}
--@ record n {"k":"a","i":3,"t":"2000-01-01T00:00:01"}
--@ record m {"k":"a","j":7}
--@ record m {"k":"b","j":8}
--@ slice of_names
SELECT k AS __run, max(i) AS __from, count(*) AS run FROM n GROUP BY ALL

--@ case rows append
SELECT _position AS __row, k AS __key0, i AS __sign, i + 1 AS run, k AS run_, k AS hash FROM n
--> 0 | a | 1 | 2 | a | a
--> 1 | b | 2 | 3 | b | b
--> 2 | a | 3 | 4 | a | a

--@ case rows_that_go append
--@ with retain: {column: __time, for: 400d}
SELECT _time AS __time, i AS applied_time_us, k AS records FROM n WHERE i > 5

--@ case groups aggregate
SELECT k AS __set, count(*) AS __position, sum(i) AS __c0, avg(i) AS __key0, max(i) AS __state, min(i) AS s FROM n GROUP BY k
--> a | 2 | 4 | 2.0 | 3 | 1
--> b | 1 | 2 | 2.0 | 2 | 2

--@ case sets_of_groups aggregate
SELECT k AS __key0, i % 2 AS __set, count(*) AS __new, sum(i) AS __values FROM n GROUP BY GROUPING SETS ((k), (i % 2))
--> a | NULL | 2 | 4
--> b | NULL | 1 | 2
--> NULL | 1 | 2 | 4
--> NULL | 0 | 1 | 2

--@ case kept_records recompute
SELECT k AS __key0, median(i) AS __position, list(i ORDER BY i) AS __row, count(DISTINCT i) AS __keys FROM n GROUP BY k
--> a | 2.0 | [1, 3] | 2
--> b | 2.0 | [2] | 1

--@ case windows recompute
SELECT k AS __key0, i AS __place, row_number() OVER (PARTITION BY k ORDER BY i, _position) AS __row, sum(i) OVER (PARTITION BY k ORDER BY i, _position) AS __gone FROM n
--> a | 1 | 1 | 1
--> a | 3 | 2 | 4
--> b | 2 | 1 | 2

--@ case joined recompute
SELECT n.k AS __key, i AS __position, j AS __row, k || '-' AS __t0 FROM n JOIN m USING (k)
--> a | 1 | 7 | a-
--> a | 3 | 7 | a-
--> b | 2 | 8 | b-

--@ case joined_and_grouped recompute
SELECT n.k AS __key0, sum(i * j) AS __c0, count(*) AS __result_1 FROM n JOIN m USING (k) GROUP BY n.k
--> a | 28 | 2
--> b | 16 | 1

--@ case over_a_slice keys
SELECT run AS __sign, count(*) AS __position, sum(__from) AS __c0 FROM of_names GROUP BY run
--> 1 | 1 | 2
--> 2 | 1 | 3

--@ case windows_over_a_slice recompute
SELECT __run AS __key0, row_number() OVER (PARTITION BY run ORDER BY __from) AS __row, __from AS __place FROM of_names
--> a | 1 | 3
--> b | 1 | 2

--@ case run_again recompute
SELECT __run, rank() OVER (ORDER BY __from DESC) AS run_, __from AS __layout, run AS hash FROM of_names
--> a | 1 | 3 | 2
--> b | 2 | 2 | 1

--@ case run_again_over_records recompute
SELECT _position AS __data, rank() OVER (ORDER BY i) AS __result, k AS run FROM n
--> 0 | 1 | a
--> 1 | 2 | b
--> 2 | 3 | a
