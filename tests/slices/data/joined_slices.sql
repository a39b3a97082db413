-- Joins of slices whose rows change and vanish, with each other, with streams and with dimensions.
--@ source r {columns: {k: VARCHAR, j: INTEGER, i: INTEGER, n: "DECIMAL(18,4)", x: DOUBLE, f: BOOLEAN}}
--@ source other {columns: {key: VARCHAR, v: INTEGER}}
--@ source dim {columns: {key: VARCHAR, place: VARCHAR, region: INTEGER}, latest_by: [key]}
--@ record r {"k":"a","j":1,"i":5,"n":"1.5","f":true}
--@ record dim {"key":"a","place":"Bern","region":1}
--@ record r {"k":"a","j":2,"i":7,"n":"2.5","f":true}
--@ record other {"key":"a","v":3}
--@ record r {"k":"b","j":1,"i":1,"n":"4","f":true}
--@ record r {"k":"a","j":1,"i":9,"n":"10","f":false}
--@ record dim {"key":"a","place":"Chur","region":2}
--@ record other {"key":"b","v":2}
--@ slice state
SELECT k, j, i, n, x, f FROM r QUALIFY row_number() OVER (PARTITION BY k, j ORDER BY _position DESC) = 1
--@ slice counts key: [k]
SELECT k, count(*) AS c, sum(i) AS total, sum(n) AS volume FROM r GROUP BY k
--@ slice medians
SELECT k, median(i) AS m, count(*) AS c FROM r GROUP BY k
--@ slice sorted
SELECT k, count(*) AS c FROM r GROUP BY k ORDER BY k LIMIT 100

--@ case two_slices keys
--@ why keys that its slices change (counts.k = medians.k), or adds and deletes single ones
SELECT a.k, a.c, b.m FROM counts AS a JOIN medians AS b ON a.k = b.k
--> a | 3 | 7.0
--> b | 1 | 1.0

--@ case left_join_of_slices keys
SELECT a.k, a.j, b.m FROM state AS a LEFT JOIN medians AS b ON a.k = b.k AND b.c > 1
--> a | 1 | 7.0
--> a | 2 | 7.0
--> b | 1 | NULL

--@ case slice_and_dimension keys
--@ why takes back and adds the rows of its join that a batch changes; below it replaces the rows of the keys that a batch touches (counts.k = dim.key)
SELECT d.place, d.region, sum(o.c) AS c, sum(o.total) / sum(o.c) AS mean FROM counts AS o LEFT JOIN dim AS d ON d.key = o.k GROUP BY ALL
--> Chur | 2 | 3 | 7.0
--> NULL | NULL | 1 | 1.0

--@ case slice_and_stream keys
SELECT o.key, o.v, c.total FROM other AS o LEFT JOIN counts AS c ON c.k = o.key
--> a | 3 | 21
--> b | 2 | 1

--@ case slice_and_stream_other_way keys
SELECT c.k, c.c, o.v FROM counts AS c LEFT JOIN other AS o ON c.k = o.key AND o.v > 0

--@ case inner_slice_and_stream_grouped keys
SELECT o.v, count(*) AS n, sum(s.i) AS total FROM state AS s JOIN other AS o ON s.k = o.key WHERE s.f GROUP BY o.v

--@ case grouped_by_the_key keys
SELECT s.k, count(*) AS n, max(o.v) AS most FROM state AS s JOIN other AS o ON s.k = o.key GROUP BY s.k
--> a | 2 | 3
--> b | 1 | 2

--@ case holistic keys
SELECT d.region, median(s.i) AS middle, sum(s.x) AS x FROM state AS s LEFT JOIN dim AS d ON d.key = s.k GROUP BY d.region

--@ case window keys
SELECT d.place, s.k, s.j, row_number() OVER (PARTITION BY d.region ORDER BY s.i DESC NULLS LAST, s.k, s.j, d.place) AS place_in FROM state AS s LEFT JOIN dim AS d ON d.key = s.k

--@ case three_relations keys
SELECT s.k, s.j, c.total, d.place FROM state AS s JOIN counts AS c ON c.k = s.k LEFT JOIN dim AS d ON d.key = s.k

--@ case three_relations_by_two_keys keys
SELECT s.k, s.j, c.total, d.place FROM state AS s JOIN counts AS c ON c.k = s.k LEFT JOIN dim AS d ON d.region = s.j

--@ case joined_with_itself keys
SELECT a.k, a.j, b.j AS other FROM state AS a JOIN state AS b ON a.k = b.k AND a.j < b.j
--> a | 1 | 2

--@ case equal_rows keys
SELECT s.f, o.v FROM state AS s JOIN other AS o ON s.k = o.key

--@ case three_inner_slices keys
SELECT a.k, a.j, b.c, m.m FROM state AS a JOIN counts AS b ON a.k = b.k JOIN medians AS m ON m.k = b.k

--@ case using keys
SELECT k, a.c, b.m FROM counts AS a LEFT JOIN medians AS b USING (k)

--@ case semi keys
SELECT s.k, s.j FROM state AS s SEMI JOIN other AS o ON o.key = s.k AND o.v > s.j

--@ case anti keys
SELECT o.key, o.v FROM other AS o ANTI JOIN counts AS c ON c.k = o.key AND c.c > 1

--@ case groups_of_a_slice keys
SELECT o.key, o.v, t.n FROM other AS o LEFT JOIN (SELECT k, count(*) AS n FROM state WHERE f GROUP BY k) AS t ON t.k = o.key

--@ case largest_of_each keys
SELECT k, j, i FROM (SELECT s.k, s.j, s.i, d.place, rank() OVER (PARTITION BY d.place ORDER BY s.i DESC) AS r FROM state AS s JOIN dim AS d ON d.key = s.k) WHERE r = 1

--@ case expression_keys keys
SELECT s.k, s.j, d.place FROM state AS s JOIN dim AS d ON d.region = s.j % 2

--@ case recomputed_slice recompute
--@ why reads slice sorted, which is recomputed
SELECT o.key, s.c FROM other AS o JOIN sorted AS s ON s.k = o.key

--@ case right recompute
--@ why has a join: RIGHT
SELECT o.key, s.k FROM other AS o RIGHT JOIN state AS s ON s.k = o.key
