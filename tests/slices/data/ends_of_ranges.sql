-- What stands at the end of a type's range, and values that are no numbers.
--@ source e {columns: {k: VARCHAR, s: VARCHAR, d: "DECIMAL(38,18)", w: "DECIMAL(38,0)"}}

--@ case sums_beyond_38_digits aggregate
--@ no random
--@ record e {"k":"a","d":"60000000000000000000.000000000000000001","w":"60000000000000000000000000000000000000"}
--@ record e {"k":"a","d":"60000000000000000000","w":"60000000000000000000000000000000000000"}
--@ record e {"k":"b","d":"-90000000000000000000","w":"-90000000000000000000000000000000000000"}
--@ record e {"k":"b","d":"-60000000000000000000","w":"-60000000000000000000000000000000000000"}
--@ record e {"k":"a","d":"-20000000000000000000","w":"-20000000000000000000000000000000000000"}
--@ quarantined 0
SELECT k, sum(d) AS d, sum(w) AS w, sum(w) > 0 AS more FROM e GROUP BY k
--> a | 100000000000000000000.000000000000000001 | 100000000000000000000000000000000000000 | true
--> b | -150000000000000000000.000000000000000000 | -150000000000000000000000000000000000000 | false

--@ case averages_beyond_38_digits aggregate
--@ no random
--@ record e {"k":"a","d":"60000000000000000000","w":"60000000000000000000000000000000000000"}
--@ record e {"k":"a","d":"60000000000000000000","w":"60000000000000000000000000000000000000"}
--@ record e {"k":"a","d":"30000000000000000000","w":"30000000000000000000000000000000000000"}
--@ quarantined 0
SELECT k, avg(d) AS d, avg(w) AS w FROM e GROUP BY k
--> a | 5e+19 | 5e+37

--@ case sums_beyond_hugeint aggregate
--@ no random
--@ record e {"k":"a","w":"90000000000000000000000000000000000000"}
--@ record e {"k":"a","w":"90000000000000000000000000000000000000"}
--@ record e {"k":"a","w":"1"}
--@ quarantined 1
SELECT k, sum(w) AS w FROM e GROUP BY k
--> a | 90000000000000000000000000000000000001

--@ case spread_of_half_the_range aggregate
--@ no random
--@ record e {"s":"1.35e154"}
--@ record e {"s":"0"}
--@ record e {"s":"0"}
--@ quarantined 0
SELECT var_pop(s::DOUBLE) AS v, stddev(s::DOUBLE) AS d FROM e

--@ case sem_of_what_is_no_number aggregate
--@ no random
--@ record e {"s":"NaN"}
--@ record e {"s":"1"}
--@ record e {"s":"inf"}
--@ record e {"s":"3"}
--@ quarantined 2
SELECT sem(s::DOUBLE) AS e, count(*) AS n FROM e
--> 0.7071067811865475 | 2

--@ case months_and_days keys
--@ no random
--@ record e {"k":"a","s":"1 month"}
--@ record e {"k":"b","s":"30 days"}
--@ record e {"k":"c","s":"1 month"}
SELECT length(k) AS l, arg_min(k, s::INTERVAL) AS least, last(k ORDER BY s::INTERVAL) AS latest FROM e GROUP BY l
