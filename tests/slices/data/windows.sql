-- Windows of time, and the zone that times are in: UTC, whatever the machine's is, in which a day ends
-- and an hour is counted.
--@ source r {columns: {k: VARCHAR, i: INTEGER, t: TIMESTAMPTZ, l: TIMESTAMP, d: DATE}}
--@ record r {"k":"a","i":1,"t":"2026-03-29T00:59:59+01:00","l":"2026-03-29T00:59:59","d":"2026-03-29"}
--@ record r {"k":"a","i":2,"t":"2026-03-29T03:00:01+02:00","l":"2026-03-29T01:00:01","d":"2026-03-29"}
--@ record r {"k":"b","i":3,"t":"2026-03-28T20:10:00-03:00","l":"2026-03-28T23:10:00","d":"2026-03-28"}
--@ record r {"k":"a","i":4,"t":"2026-03-29T01:04:00Z","l":"2026-03-29T01:04:00","d":"2026-03-29"}

--@ case tumbling aggregate
SELECT time_bucket(INTERVAL 1 HOUR, l) AS hour, count(*) AS n, sum(i) AS total FROM r GROUP BY ALL
--> 2026-03-28 23:00:00 | 1 | 3
--> 2026-03-29 00:00:00 | 1 | 1
--> 2026-03-29 01:00:00 | 2 | 6

-- Ten minutes long, one every five: each record is in two of them.
--@ case hopping aggregate
SELECT starts, count(*) AS n FROM (SELECT unnest(generate_series(time_bucket(INTERVAL 5 MINUTE, l) - INTERVAL 5 MINUTE, time_bucket(INTERVAL 5 MINUTE, l), INTERVAL 5 MINUTE)) AS starts FROM r) GROUP BY ALL
--> 2026-03-28 23:05:00 | 1
--> 2026-03-28 23:10:00 | 1
--> 2026-03-29 00:50:00 | 1
--> 2026-03-29 00:55:00 | 3
--> 2026-03-29 01:00:00 | 2

--@ case hopping_by_key aggregate
SELECT k, starts, sum(i) AS total, max(i) AS most FROM (SELECT k, i, unnest(generate_series(time_bucket(INTERVAL 5 MINUTE, t) - INTERVAL 10 MINUTE, time_bucket(INTERVAL 5 MINUTE, t), INTERVAL 5 MINUTE)) AS starts FROM r) GROUP BY ALL HAVING count(*) > 1
--> a | 2026-03-29 00:50:00+00 | 6 | 4
--> a | 2026-03-29 00:55:00+00 | 6 | 4
--> a | 2026-03-29 01:00:00+00 | 6 | 4

--@ case hopping_holistic keys
SELECT starts, median(i) AS m FROM (SELECT i, unnest(generate_series(time_bucket(INTERVAL 5 MINUTE, l) - INTERVAL 5 MINUTE, time_bucket(INTERVAL 5 MINUTE, l), INTERVAL 5 MINUTE)) AS starts FROM r) GROUP BY ALL

-- A new session begins where a key was silent for five minutes.
--@ case sessions keys
SELECT k, session, min(l) AS begins, count(*) AS n FROM (SELECT *, sum(CASE WHEN before IS NULL OR l - before > INTERVAL 5 MINUTE THEN 1 ELSE 0 END) OVER (PARTITION BY k ORDER BY l, _position ROWS UNBOUNDED PRECEDING) AS session FROM (SELECT *, lag(l) OVER (PARTITION BY k ORDER BY l, _position) AS before FROM r)) GROUP BY k, session
--> a | 1 | 2026-03-29 00:59:59 | 3
--> b | 1 | 2026-03-28 23:10:00 | 1

-- An offset says which moment it is, and is not kept: it is shown, cut to days and taken apart in UTC.
--@ case days_are_of_utc keys
SELECT date_trunc('day', t) AS day, CAST(t AS DATE) AS d, list_sort(list(DISTINCT extract(hour FROM t))) AS hours, count(*) AS n FROM r GROUP BY 1, 2
--> 2026-03-28 00:00:00+00 | 2026-03-28 | [23] | 2
--> 2026-03-29 00:00:00+00 | 2026-03-29 | [1] | 2

--@ case text_and_casts_are_of_utc append
SELECT CAST(t AS VARCHAR) AS shown, CAST(t AS TIMESTAMP) AS local, CAST(l AS TIMESTAMPTZ) = t AS same, strftime(t, '%Y-%m-%d %H:%M %Z') AS formatted FROM r WHERE i < 3
--> 2026-03-28 23:59:59+00 | 2026-03-28 23:59:59 | false | 2026-03-28 23:59 UTC
--> 2026-03-29 01:00:01+00 | 2026-03-29 01:00:01 | true | 2026-03-29 01:00 UTC

-- Whose local day is wanted says so: 2026-03-29 has 23 hours in Zurich.
--@ case a_named_zone aggregate
SELECT CAST(timezone('Europe/Zurich', t) AS DATE) AS day, count(*) AS n, max(timezone('Europe/Zurich', t)) AS last FROM r GROUP BY ALL
--> 2026-03-29 | 4 | 2026-03-29 03:04:00

--@ case times_plus_days_are_of_utc append
SELECT t + INTERVAL 1 DAY AS tomorrow, t - TIMESTAMPTZ '2026-03-29 00:00:00+00' AS since, epoch(t) AS seconds FROM r WHERE i = 4
--> 2026-03-30 01:04:00+00 | 01:04:00 | 1774746240.0
