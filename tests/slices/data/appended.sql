-- Rows that each come from one record.
--@ source r {columns: {k: VARCHAR, j: INTEGER, i: INTEGER, n: "DECIMAL(18,4)", s: VARCHAR, f: BOOLEAN}}
--@ record r {"k":"a","i":1,"s":"x","f":true}
--@ record r {"k":"b","i":-1,"j":7}

--@ case filter_and_project append
--@ why each for itself
SELECT k, upper(s) AS u, i * 1e3 AS thousand FROM r WHERE i > 0
--> a | X | 1000.0

--@ case star append
SELECT * FROM r
--> a | NULL | 1 | NULL | x | true
--> b | 7 | -1 | NULL | NULL | NULL

--@ case star_with_a_hidden_key append
--@ with key: [_position]
--@ reference SELECT * FROM r WHERE _position >= 0
SELECT * FROM r
--> a | NULL | 1 | NULL | x | true | 0
--> b | 7 | -1 | NULL | NULL | NULL | 1

--@ case star_of_named_columns append
SELECT * EXCLUDE (n, s, f) REPLACE (i * 2 AS i), _offset >= 0 AS known FROM r AS q
--> a | NULL | 2 | 0 | true
--> b | 7 | -2 | 1 | true

--@ case star_of_its_relation append
SELECT q.*, upper(k) FROM r AS q WHERE q._key IS NULL
--> a | NULL | 1 | NULL | x | true | NULL | A
--> b | 7 | -1 | NULL | NULL | NULL | NULL | B

--@ case star_that_is_chosen append
SELECT COLUMNS('^(k|_.*)$') FROM r
--> a
--> b

--@ case star_of_a_subquery append
WITH q AS (FROM r) SELECT * FROM q WHERE f
--> a | NULL | 1 | NULL | x | true

--@ case unnest append
SELECT q.k, unnest([i, j]) AS v FROM r AS q
--> a | 1
--> a | NULL
--> b | -1
--> b | 7

--@ case interval_and_decimal_constants append
SELECT k, INTERVAL 1 HOUR, 1.5 AS d FROM r
--> a | 01:00:00 | 1.5
--> b | 01:00:00 | 1.5

--@ case null_column append
SELECT NULL AS nothing, k FROM r WHERE f
--> NULL | a

--@ case comment_at_the_end append
SELECT k, list_sum([i, j]) AS ij FROM r -- done

--@ case nested_values append
SELECT k, {'a': i} AS st, [s] AS li FROM r;
--> a | {'a': 1} | [x]
--> b | {'a': -1} | [NULL]

--@ case failing_cast_is_quarantined append
--@ no random
--@ record r {"k":"a","s":"17"}
--@ record r {"k":"b","s":"many"}
--@ record r {"k":"c","s":null}
SELECT k, CAST(s AS INTEGER) AS number FROM r
--> a | 17
--> c | NULL
--@ quarantined 1

-- A record is read for what the star chooses, and not for the rest.
--@ case star_that_chooses_by_a_lambda append
--@ record r {"k":"a","i":1,"j":"none"}
--@ record r {"k":"b","i":"none","j":2}
--@ record r {"k":"c","i":3,"n":"none","f":"none"}
--@ quarantined 1
SELECT COLUMNS(k -> k IN ('k', 'i')) FROM r
--> a | 1
--> c | 3

--@ case star_that_chooses_beside_a_condition append
--@ record r {"k":"a","i":1,"j":7,"n":"none"}
--@ record r {"k":"b","i":1,"j":"none"}
--@ quarantined 1
SELECT COLUMNS('^[ki]$') FROM r WHERE j > 0
--> a | 1

--@ case star_that_chooses_nothing_of_one_relation append
--@ record r {"k":"a","i":1,"j":"none"}
--@ quarantined 0
SELECT COLUMNS(c -> c = 'i'), COLUMNS(c -> c = 'k') FROM r
--> 1 | a

-- A whole row is what the declaration says, as a star is.
--@ case whole_rows append
--@ record r {"k":"a","i":1,"f":true}
SELECT i, to_json(o) AS doc FROM r AS o
--> 1 | {"k":"a","j":null,"i":1,"n":null,"s":null,"f":true}

--@ case whole_rows_beside_a_star append
--@ record r {"k":"a","i":1,"f":true}
SELECT *, to_json(r) AS doc FROM r
--> a | NULL | 1 | NULL | NULL | true | {"k":"a","j":null,"i":1,"n":null,"s":null,"f":true}

--@ case whole_rows_with_a_hidden_column append
--@ record r {"k":"a","i":1}
SELECT to_json(o) AS doc FROM r AS o WHERE _offset >= 0
--> {"k":"a","j":null,"i":1,"n":null,"s":null,"f":null,"_offset":0}
