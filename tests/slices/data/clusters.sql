-- Connected components over slices whose edges come, and go.
--@ source r {columns: {a: VARCHAR, b: VARCHAR, i: INTEGER, f: BOOLEAN}}
--@ record r {"a":"a","b":"b","i":1,"f":true}
--@ record r {"a":"c","b":"d","i":2,"f":true}
--@ record r {"a":"a","b":"b","i":3,"f":true}
--@ record r {"a":"b","b":"c","i":4,"f":true}
--@ record r {"a":"b","b":"c","i":4,"f":false}
--@ slice links key: [a, b]
SELECT least(a, b) AS a, greatest(a, b) AS b, count(*) AS transfers FROM r WHERE a <> b GROUP BY ALL
--@ slice newest
SELECT a, b, i, f FROM r QUALIFY row_number() OVER (PARTITION BY i ORDER BY _position DESC) = 1
--@ slice lines
SELECT a, b, i FROM r
--@ slice sorted
SELECT a, b FROM r ORDER BY a LIMIT 10

--@ case edges_that_only_come aggregate
--@ why connects the edges that slice links gets with the clusters there are; when it loses one, all are connected anew
SELECT c.node AS wallet, c.cluster FROM (SELECT unnest(components(a, b)) AS c FROM links)
--> a | a
--> b | a
--> c | a
--> d | a

--@ case edges_that_go aggregate
SELECT c.node, c.cluster FROM (SELECT unnest(components(a, b)) AS c FROM newest WHERE f)
--> a | a
--> b | a
--> c | c
--> d | c

--@ case edges_that_pass_a_bound aggregate
SELECT c.node, c.cluster FROM (SELECT unnest(components(l.a, l.b)) AS c FROM links AS l WHERE transfers % 3 > 0)

--@ case clusters_by_size aggregate
SELECT c.cluster, count(*) AS wallets FROM (SELECT unnest(components(a, b)) AS c FROM newest) GROUP BY c.cluster HAVING count(*) > 1

--@ case as_they_are aggregate
SELECT unnest(components(upper(a), b)) AS c FROM lines WHERE i > 0

--@ case of_a_recomputed_slice recompute
--@ why reads slice sorted, which is recomputed
SELECT unnest(components(a, b)) AS c FROM sorted

--@ case by_group keys
SELECT f, unnest(components(a, b)) AS c FROM newest GROUP BY f
