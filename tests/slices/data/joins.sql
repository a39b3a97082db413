-- Joins of streams and dimensions that one key leads through.
--@ source bids {columns: {item: VARCHAR, shop: VARCHAR, price: INTEGER, n: "DECIMAL(18,4)"}}
--@ source items {columns: {id: VARCHAR, kind: VARCHAR, limit_price: INTEGER}}
--@ source shops {columns: {name: VARCHAR, city: VARCHAR, rank: INTEGER}, latest_by: [name]}
--@ record bids {"item":"a","shop":"x","price":5,"n":"1.5"}
--@ record items {"id":"a","kind":"book","limit_price":7}
--@ record bids {"item":"a","shop":"y","price":9,"n":"2"}
--@ record bids {"item":"b","shop":"x","price":3}
--@ record shops {"name":"x","city":"Bern","rank":1}
--@ record shops {"name":"x","city":"Chur","rank":2}
--@ record bids {"shop":"x","price":1}

--@ case inner keys
--@ why bids.item = items.id
SELECT b.item, b.price, i.kind FROM bids AS b JOIN items AS i ON b.item = i.id
--> a | 5 | book
--> a | 9 | book

--@ case left keys
SELECT b.item, b.price, i.kind FROM bids AS b LEFT JOIN items AS i ON i.id = b.item
--> a | 5 | book
--> a | 9 | book
--> b | 3 | NULL
--> NULL | 1 | NULL

--@ case more_conditions keys
SELECT item, price, kind FROM bids LEFT JOIN items ON id = item AND price <= limit_price WHERE price > 2 OR kind IS NULL
--> a | 5 | book
--> a | 9 | NULL
--> b | 3 | NULL
--> NULL | 1 | NULL

--@ case grouped_by_the_key keys
SELECT i.id, i.kind, count(*) AS bids, max(b.price) AS highest, median(b.price) AS middle FROM bids AS b JOIN items AS i ON i.id = b.item GROUP BY ALL HAVING count(*) > 1
--> a | book | 2 | 9 | 7.0

--@ case grouped_by_the_left_key keys
SELECT b.item AS what, count(i.id) AS known, sum(b.n) AS n FROM bids AS b LEFT JOIN items AS i ON i.id = b.item GROUP BY b.item
--> a | 2 | 3.5000
--> b | 0 | NULL
--> NULL | 0 | NULL

--@ case dimension_changes_old_rows keys
--@ why bids.shop = shops.name
SELECT b.item, b.price, s.city FROM bids AS b LEFT JOIN shops AS s ON s.name = b.shop
--> a | 5 | Chur
--> a | 9 | NULL
--> b | 3 | Chur
--> NULL | 1 | Chur

--@ case dimension_whose_key_is_another keys
SELECT b.item, b.price, s.name FROM bids AS b JOIN shops AS s ON s.rank = b.price + 0 AND s.rank = b.price

--@ case chain keys
SELECT b.item, i.kind, s.city FROM bids AS b LEFT JOIN items AS i ON i.id = b.item LEFT JOIN shops AS s ON s.name = i.id AND s.rank > 0

--@ case chain_of_inner_joins_grouped keys
SELECT i.id, s.city, count(*) AS c FROM items AS i JOIN bids AS b ON b.item = i.id JOIN shops AS s ON b.item = s.name GROUP BY ALL

--@ case joined_with_itself keys
SELECT a.price, b.price AS other FROM bids AS a JOIN bids AS b ON a.item = b.item AND a._position < b._position
--> 5 | 9

--@ case in_order keys
--@ why ORDER BY is dropped
SELECT b.item, i.kind FROM bids AS b JOIN items AS i ON b.item = i.id ORDER BY b.price

--@ case groups_by_something_else recompute
--@ why groups a join by other columns
SELECT i.kind, count(*) AS c FROM bids AS b JOIN items AS i ON b.item = i.id GROUP BY i.kind

--@ case groups_by_what_may_be_null recompute
--@ why groups a join by other columns
SELECT i.id, count(*) AS c FROM bids AS b LEFT JOIN items AS i ON b.item = i.id GROUP BY i.id

--@ case two_keys recompute
--@ why no equality leads to one key
SELECT b.item, i.kind, s.city FROM bids AS b JOIN items AS i ON b.item = i.id JOIN shops AS s ON s.name = b.shop

--@ case other_types recompute
--@ why joins by INTEGER and DECIMAL(18,4)
SELECT b.item, i.kind FROM bids AS b JOIN items AS i ON b.n = i.limit_price

--@ case no_equality recompute
--@ why no equality leads to one key
SELECT b.item, i.kind FROM bids AS b JOIN items AS i ON b.price < i.limit_price

--@ case right_join recompute
--@ why has a join: RIGHT
SELECT b.item, i.kind FROM bids AS b RIGHT JOIN items AS i ON b.item = i.id

--@ case using recompute
--@ why a join without ON
SELECT a.price FROM bids AS a JOIN bids AS b USING (item)

--@ case ordered_aggregate recompute
--@ why in an order that it does not have
SELECT b.item, list(i.kind ORDER BY b.price) AS kinds FROM bids AS b JOIN items AS i ON b.item = i.id GROUP BY b.item

--@ case window recompute
--@ why has window in a join
SELECT b.item, row_number() OVER (PARTITION BY b.item ORDER BY b._position, i._position) AS n FROM bids AS b JOIN items AS i ON b.item = i.id

--@ case subquery recompute
--@ why has subquery in a join
SELECT b.item, i.kind FROM bids AS b JOIN items AS i ON b.item = i.id WHERE b.price = (SELECT max(price) FROM bids)

--@ case union_of_joins recompute
SELECT b.item, i.kind FROM bids AS b JOIN items AS i ON b.item = i.id UNION ALL SELECT item, shop FROM bids
