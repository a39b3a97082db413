-- Slices that must be planned as `recompute`, with a part of the reason: reason | SQL
DISTINCT | SELECT k, count(DISTINCT i) FROM r GROUP BY k
DISTINCT | SELECT DISTINCT k FROM r
ORDER BY | SELECT k, i FROM r ORDER BY i
ORDER BY | SELECT k, i FROM r ORDER BY i LIMIT 3
median | SELECT k, median(i) FROM r GROUP BY k
ORDER BY | SELECT k, list(i ORDER BY _position) FROM r GROUP BY k
window | SELECT k, sum(i) OVER (PARTITION BY k ORDER BY _position) FROM r
window | SELECT k FROM r QUALIFY row_number() OVER (PARTITION BY k ORDER BY _position) = 1
subquery | SELECT k FROM r WHERE i = (SELECT max(i) FROM r)
subquery | SELECT k, n FROM (SELECT k, count(*) AS n FROM r GROUP BY k)
WITH | WITH c AS (SELECT k FROM r) SELECT * FROM c
UNION | SELECT k FROM r UNION ALL SELECT s FROM r
join | SELECT a.k FROM r AS a JOIN r AS b ON a._position = b._position
ROLLUP | SELECT k, j, count(*) FROM r GROUP BY ROLLUP (k, j)
several sources | SELECT r.k, o.v FROM r, other AS o WHERE o.key = r.k
dimension | SELECT v, count(*) FROM dim GROUP BY v
reads slice | SELECT k, n FROM counts WHERE n > 1
no source | SELECT 1 AS one
avg() of TIMESTAMP | SELECT k, avg(t) FROM r GROUP BY k
lambda | SELECT k, list_transform([1], lambda v: v + 1) AS l, count(*) FROM r GROUP BY ALL
unnest | SELECT unnest([1, 2]) AS u, count(*) FROM r GROUP BY ALL
max() of | SELECT k, max([i]) FROM r GROUP BY k
arg_max | SELECT k, arg_max(i, t) FROM r GROUP BY k
HAVING names n | SELECT k, count(*) AS n FROM r GROUP BY k HAVING n > 20
COLLATE | SELECT k COLLATE NOCASE AS kk, count(*) FROM r GROUP BY 1
COLLATE | SELECT k, max(s COLLATE NOCASE) AS m FROM r GROUP BY k
same types | SELECT k, {'n': count(*)} AS st FROM r GROUP BY k
