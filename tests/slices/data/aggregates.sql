-- Slices that must be planned as `aggregate`: one a line, folded in batches and compared with one run
-- over all rows. Columns: k (text key, NULLs), j (integer key, NULLs), i INTEGER, b BIGINT, n DECIMAL(18,4),
-- x DOUBLE, s VARCHAR, t TIMESTAMP, z TIMESTAMPTZ, d DATE, f BOOLEAN; the rows of k = 'void' are all NULL.
SELECT k, count(*) AS n FROM r GROUP BY k
SELECT k, j, count(*), count(i), sum(i), min(i), max(i), avg(i) FROM r GROUP BY ALL
SELECT k, sum(b), avg(b), min(b), max(b) FROM r GROUP BY 1
SELECT k, sum(n) AS total, avg(n) AS mean, min(n), max(n) FROM r GROUP BY k
SELECT j, sum(n * 3), avg(n / 2.0::DECIMAL(5,1)), sum(n::DECIMAL(30,10)) AS w, avg(n::DECIMAL(30,10)) AS a FROM r GROUP BY j
SELECT k, sum(x), avg(x), min(x), max(x), mean(x::FLOAT) FROM r GROUP BY ALL
SELECT k, min(s), max(s), min(t), max(t), min(z), max(z), min(d), max(d), min(f), max(f) FROM r GROUP BY ALL
SELECT date_trunc('day', t) AS day, k, count(*) FILTER (WHERE i > 15) AS late, sum(i) FILTER (WHERE f) AS fs FROM r GROUP BY day, k
SELECT time_bucket(INTERVAL 6 HOUR, t) AS bucket, count(*) AS n FROM r WHERE x > 1e0 GROUP BY ALL
SELECT k, count(*) AS cnt, sum(i) AS total FROM r GROUP BY k HAVING cnt > 20 AND sum(i) > 0
SELECT k, sum(i) AS total FROM r GROUP BY k HAVING avg(i) > 1.5 OR k IS NULL
SELECT k, sum(i)::DOUBLE / count(*) AS rate, sum(x) / nullif(count(x), 0) AS r2, CASE WHEN count(*) > 10 THEN 'many' ELSE 'few' END AS size FROM r GROUP BY k
SELECT upper(k) || '-' || coalesce(j, 0)::VARCHAR AS kj, sum(i) FROM r GROUP BY 1
SELECT k, count(*) AS cnt, cnt + 1 AS more, max(i) - min(i) AS spread FROM r GROUP BY k
SELECT count(*), count(i), sum(i), sum(n), avg(n), min(s), max(t), avg(x), sum(x) FROM r
SELECT count(*) AS n FROM r HAVING count(*) > 100
SELECT count(*) FILTER (WHERE k = 'none') AS none, sum(i) FILTER (WHERE k = 'none') AS nothing FROM r
SELECT k FROM r GROUP BY k
SELECT f, q.k AS key, count(*) AS n FROM r AS q WHERE q.j IS NOT NULL AND q.k <> 'c' GROUP BY q.f, q.k
SELECT k AS s, min(s) AS first_s FROM r GROUP BY k
SELECT i % 7 AS m, sum(CASE WHEN f THEN 1 ELSE 0 END) AS yes, sum(f::INTEGER) AS yes2, sum(f) AS yes3 FROM r GROUP BY i % 7
SELECT x AS key, count(*) FROM r GROUP BY x
SELECT date_trunc('day', t) AS t, count(*) AS n FROM r GROUP BY ALL
SELECT extract(year FROM t) AS y, extract(hour FROM z) AS h, sum(x * 1.5e0) AS sx FROM r GROUP BY ALL
SELECT k, 'label' AS label, 7 AS seven, count(*) AS n FROM r GROUP BY ALL
SELECT 'only' AS label, count(*) AS n FROM r GROUP BY ALL
SELECT k, greatest(max(i), 3) AS g, round(avg(i), 2) AS a2, sum(i) BETWEEN 1 AND 100 AS mid, max(s) IN ('s1', 's9') AS has FROM r GROUP BY k
SELECT j, sum(j) AS sj, max(j + i) AS mji FROM r GROUP BY j
SELECT k, min(_position) AS first_pos, max(_time) AS last_seen, count(_key) AS keys FROM r GROUP BY k
SELECT k, count(*) AS "count", sum(i) AS "Sum of i", max(s) AS "größte" FROM r GROUP BY k
SELECT json_extract_string(_payload, '$.a') AS a, count(*) FROM r GROUP BY 1
SELECT (i IS NULL) AS missing, count(*) FROM r GROUP BY i IS NULL
SELECT min(i) AS lo FROM r WHERE false
