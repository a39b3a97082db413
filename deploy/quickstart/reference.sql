-- What each slice must show, computed by DuckDB straight from the Parquet and CSV files. The checker
-- (flights_check.cc) makes the relations `flights` (date, delay, distance, origin, destination) and
-- `airports`, then compares every slice with the SELECT under its name, by the key behind it.

-- slice: operations.on_time key: origin, hour
SELECT origin, time_bucket(INTERVAL 1 HOUR, date) AS hour, count(*) AS flights,
       count(*) FILTER (WHERE delay > 15) AS late, sum(delay) AS delay_sum, avg(delay) AS avg_delay,
       max(delay) AS worst_delay
FROM flights GROUP BY origin, hour;

-- slice: operations.delay_buckets key: day, bucket
SELECT date_trunc('day', date) AS day,
       CASE WHEN delay <= 0 THEN 'none' WHEN delay <= 15 THEN 'up to 15 min'
            WHEN delay <= 60 THEN 'up to 1 h' ELSE 'over 1 h' END AS bucket,
       count(*) AS flights
FROM flights GROUP BY day, bucket;

-- slice: operations.city_delay key: city, state
SELECT a.city, a.state, count(*) AS flights, avg(f.delay) AS avg_delay, max(f.delay) AS worst_delay
FROM flights AS f LEFT JOIN airports AS a ON a.iata = f.origin GROUP BY a.city, a.state;

-- slice: network.routes key: origin, destination
SELECT origin, destination, count(*) AS flights, max(distance) AS distance
FROM flights GROUP BY origin, destination;

-- slice: network.busiest_routes key: origin, destination
SELECT origin, destination, count(*) AS flights FROM flights GROUP BY origin, destination
ORDER BY flights DESC, origin, destination LIMIT 100;

-- slice: network.top_destinations key: origin, place
SELECT origin, destination, flights, place FROM (
  SELECT origin, destination, count(*) AS flights,
         row_number() OVER (PARTITION BY origin ORDER BY count(*) DESC, destination) AS place
  FROM flights GROUP BY origin, destination) WHERE place <= 10;

-- slice: network.airport_clusters key: airport
WITH RECURSIVE busy AS (
  SELECT origin, destination FROM flights GROUP BY ALL HAVING count(*) >= 3000
), links AS (
  SELECT origin AS a, destination AS b FROM busy UNION SELECT destination, origin FROM busy
), reached(airport, peer) AS (
  SELECT a, a FROM links UNION
  SELECT r.airport, l.b FROM reached AS r JOIN links AS l ON l.a = r.peer
)
SELECT airport, min(peer) AS cluster, count(*) AS airports FROM reached GROUP BY airport;

-- slice: punctuality.monthly_kpi key: state, month
SELECT a.state, date_trunc('month', f.date) AS month, count(*) AS flights,
       count(*) FILTER (WHERE f.delay <= 15) AS punctual, avg(f.delay) AS avg_delay
FROM flights AS f LEFT JOIN airports AS a ON a.iata = f.origin GROUP BY a.state, month;
