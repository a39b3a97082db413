-- Records that make several rows, or none.
--@ source r {columns: {k: VARCHAR, i: INTEGER, l: "VARCHAR[]"}}

--@ case distinct_on_unnest keys
--@ why keeps what it reads
--@ record r {"k":"a","l":["x"]}
--@ record r {"k":"a","l":[]}
--@ record r {"k":"b","l":["y"]}
--@ record r {"k":"a"}
SELECT DISTINCT ON (k) k, unnest(l) AS tag FROM r ORDER BY k, _position DESC
--> a | x
--> b | y

--@ case distinct_on_unnest_in_a_subquery keys
--@ record r {"k":"a","l":["x"]}
--@ record r {"k":"a","l":[]}
--@ record r {"k":"a"}
SELECT k, upper(tag) AS tag FROM (SELECT DISTINCT ON (k) k, unnest(l) AS tag FROM r ORDER BY k, _position DESC)
--> a | X

-- QUALIFY counts records, and unnest() comes after it.
--@ case newest_with_unnest keys
--@ why keeps the first
--@ record r {"k":"a","l":["x"]}
--@ record r {"k":"b","l":["z","y"]}
--@ record r {"k":"a","l":[]}
SELECT k, unnest(l) AS tag FROM r QUALIFY row_number() OVER (PARTITION BY k ORDER BY _position DESC) = 1
--> b | z
--> b | y
