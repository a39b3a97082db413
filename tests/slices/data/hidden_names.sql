-- WITH queries that hide what they read by its name.
--@ source n {columns: {k: VARCHAR, n: INTEGER}}
--@ source r {columns: {k: VARCHAR, i: INTEGER}}
--@ record n {"k":"a","n":1}
--@ record n {"k":"a","n":3}
--@ record r {"k":"b","i":5}

--@ case a_column_of_what_is_hidden keys
WITH n AS (SELECT * FROM n) SELECT k, median(n) AS m FROM n GROUP BY k
--> a | 2.0

-- Taken for one that reads itself, it would be looked through twice as often each time.
--@ case whole_rows_of_what_is_hidden recompute
--@ why takes whole rows by the name of their relation
WITH r AS (SELECT * FROM r AS a JOIN r AS b USING (k)) SELECT k, count(DISTINCT r) AS rows FROM r GROUP BY k
--> b | 1
