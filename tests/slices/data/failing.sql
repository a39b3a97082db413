-- SQL that fails on some records: each costs that record in that slice, by every strategy that is kept
-- fresh. What DuckDB does not call an error is none here either.
--@ source r {columns: {k: VARCHAR, i: INTEGER, b: BIGINT, s: VARCHAR}}
--@ source wide {columns: {k: VARCHAR, a: "DECIMAL(38,18)", b: "DECIMAL(38,18)", h: HUGEINT, x: DOUBLE}}
--@ record r {"k":"a","i":4,"b":1,"s":"2001-01-01"}
--@ record r {"k":"a","i":-8,"b":9223372036854775807,"s":"x"}
--@ record r {"k":"b","i":0,"b":2,"s":"2001-01-03"}
--@ slice ones
SELECT k, 1 AS one FROM r GROUP BY k

--@ case root_of_a_negative append
SELECT _position AS p, sqrt(i) AS root FROM r
--@ no random
--@ quarantined 1
--> 0 | 2.0
--> 2 | 0.0

--@ case overflow append
SELECT _position AS p, b + 1 AS more FROM r
--@ quarantined 1
--> 0 | 2
--> 2 | 3

--@ case text_that_is_no_time append
SELECT _position AS p, strptime(s, '%Y-%m-%d') AS day FROM r
--@ no random
--@ quarantined 1
--> 0 | 2001-01-01 00:00:00
--> 2 | 2001-01-03 00:00:00

--@ case cast_within_a_sum aggregate
SELECT k, sum(CAST(i AS UTINYINT)) AS n FROM r GROUP BY k
--@ no random
--@ quarantined 1
--> a | 4
--> b | 0

--@ case overflow_in_a_group_key aggregate
SELECT b + 1 AS more, count(*) AS n FROM r GROUP BY ALL
--@ quarantined 1
--> 2 | 1
--> 3 | 1

--@ case overflow_within_a_median keys
SELECT k, median(b + 1) AS m FROM r GROUP BY k
--@ quarantined 1
--> a | 2.0
--> b | 3.0

--@ case overflow_within_a_window keys
SELECT _position AS p, sum(b + 1) OVER (PARTITION BY k ORDER BY _position) AS n FROM r
--@ quarantined 1
--> 0 | 2
--> 2 | 3

--@ case dividing_by_zero_is_no_error append
SELECT _position AS p, 8 // i AS n, 8 / i AS d FROM r
--@ quarantined 0
--> 0 | 2 | 2.0
--> 1 | -1 | -1.0
--> 2 | NULL | inf

-- Above the aggregate, where no record is read: the groups of the batch are computed as it is applied.
--@ case cast_over_an_aggregate aggregate
--@ no random
--@ record r {"k":"a","s":"17"}
--@ record r {"k":"a","s":"many"}
--@ record r {"k":"b","s":"3"}
--@ quarantined 1
SELECT k, CAST(max(s) AS INTEGER) AS m FROM r GROUP BY k
--> a | 17
--> b | 3

--@ case root_of_a_sum aggregate
--@ no random
--@ quarantined 1
SELECT k, sqrt(sum(i)) AS root FROM r GROUP BY k
--> a | 2.0
--> b | 0.0

--@ case overflow_over_a_maximum aggregate
--@ quarantined 1
SELECT k, max(b) + 1 AS next FROM r GROUP BY k
--> a | 2
--> b | 3

--@ case error_in_having aggregate
--@ no random
--@ quarantined 1
SELECT k, count(*) AS n FROM r GROUP BY k HAVING sqrt(sum(i)) > 1
--> a | 1

--@ case error_over_all_records aggregate
--@ no random
--@ quarantined 1
SELECT sqrt(sum(i)) AS root FROM r
--> 2.0

--@ case error_of_the_group_of_null aggregate
--@ no random
--@ record r {"s":"17"}
--@ record r {"s":"x"}
--@ record r {"k":"a","s":"1"}
--@ quarantined 1
SELECT k, CAST(max(s) AS INTEGER) AS m FROM r GROUP BY k
--> NULL | 17
--> a | 1

--@ case what_cannot_fail_over_aggregates aggregate
--@ quarantined 0
SELECT k, sum(i) / count(*) AS mean, count(*) - count(b) AS without, round(avg(i), 1) AS rounded, CASE WHEN count(*) > 1 THEN 'many' ELSE k END AS much, coalesce(max(s), '') AS s FROM r GROUP BY k HAVING count(*) > 0

--@ case a_failing_cast_of_a_cluster recompute
--@ why computes of clusters what may fail
SELECT CAST(try_cast(c.node AS INTEGER) AS VARCHAR) AS n, length(c.cluster) + 1 AS l FROM (SELECT unnest(components(k, s)) AS c FROM r)

-- An output's name hides no row that is looked at.
--@ case overflow_of_a_sum_beside_an_output_named_r aggregate
--@ no random
--@ record r {"k":"a","i":100}
--@ record r {"k":"a","i":100}
--@ record r {"k":"b","i":1}
--@ quarantined 1
SELECT k AS r, CAST(sum(i) AS TINYINT) AS v FROM r GROUP BY k
--> a | 100
--> b | 1

-- Room enough there is only for whole numbers.
--@ case overflow_of_two_sums_of_decimals aggregate
--@ no random
--@ record wide {"k":"x","a":"1","b":"1"}
--@ record wide {"k":"y","a":"60000000000000000000","b":"60000000000000000000"}
--@ quarantined 1
SELECT k, sum(a) + sum(b) AS total FROM wide GROUP BY k
--> x | 2.000000000000000000

--@ case overflow_of_two_sums_of_hugeint aggregate
--@ no random
--@ record wide {"k":"x","h":1}
--@ record wide {"k":"y","h":100000000000000000000000000000000000000}
--@ quarantined 1
SELECT k, sum(h) + sum(h) AS total FROM wide GROUP BY k
--> x | 2

-- In one transaction and in two.
--@ case deviation_out_of_the_range_of_double aggregate
--@ no random
--@ record wide {"x":1e200}
--@ record wide {"x":-1e200}
--@ quarantined 1
SELECT stddev_pop(x) AS s, count(*) AS n FROM wide
--> 0.0 | 1

--@ case variance_out_of_the_range_of_double aggregate
--@ no random
--@ record wide {"k":"a","x":1}
--@ record wide {"k":"a","x":3}
--@ record wide {"k":"b","x":1}
--@ record wide {"k":"a","x":-1e160}
--@ quarantined 1
SELECT k, var_samp(x) AS v, stddev(DISTINCT x) AS s, sem(x) AS e FROM wide GROUP BY k
--> a | 2.0 | 1.4142135623730951 | 0.7071067811865475
--> b | NULL | NULL | 0.0

-- Run as a whole, over everything: those that fail without any other are found first.
--@ case run_as_a_whole recompute
--@ quarantined 1
SELECT i, sqrt(i) AS root FROM r ORDER BY i LIMIT 2
--> 0 | 0.0
--> 4 | 2.0

--@ case run_as_a_whole_on_several_that_fail_together recompute
--@ no random
--@ record r {"k":"a","i":100}
--@ record r {"k":"b","i":100}
--@ record r {"k":"c","i":27}
--@ record r {"k":"d","i":1}
--@ quarantined 2
SELECT CAST(sum(i) AS TINYINT) AS n FROM r ORDER BY n LIMIT 1
--> 127

--@ case more_than_one_row recompute
--@ quarantined 1
SELECT (SELECT k FROM r WHERE i >= 0) AS k
--> a

-- Joined to rows of a slice that are right without them.
--@ case joined_to_a_slice keys
--@ no random
--@ quarantined 1
SELECT r._position AS p, sqrt(r.i) * o.one AS root FROM r JOIN ones AS o ON o.k = r.k
--> 0 | 2.0
--> 2 | 0.0

--@ case joined_to_a_slice_as_a_whole recompute
--@ no random
--@ quarantined 1
SELECT r._position AS p, sqrt(r.i) * o.one AS root FROM r JOIN ones AS o ON o.k = r.k ORDER BY p LIMIT 10
--> 0 | 2.0
--> 2 | 0.0

-- Unlike count() of a group, these compute what they count.
--@ case counted_within_windows keys
SELECT k, count(b + 1) OVER (PARTITION BY k) AS n FROM r
--@ quarantined 1
--> a | 1
--> b | 1

--@ case counted_where aggregate
SELECT k, count(CASE WHEN b > 0 THEN b + 1 END) AS n FROM r GROUP BY k
--@ quarantined 1
--> a | 1
--> b | 1
