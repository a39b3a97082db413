-- Joins of streams and dimensions that one key leads through.
--@ source bids {columns: {item: VARCHAR, shop: VARCHAR, price: INTEGER, n: "DECIMAL(18,4)"}}
--@ source items {columns: {id: VARCHAR, kind: VARCHAR, limit_price: INTEGER}}
--@ source shops {columns: {name: VARCHAR, city: VARCHAR, rank: INTEGER}, latest_by: [name]}
--@ source timed {columns: {kind: VARCHAR, unit: VARCHAR, t: TIMESTAMP}}
--@ source days {columns: {day: TIMESTAMP, name: VARCHAR}}
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

--@ case joined_to_positions keys
SELECT a.item, median(b.price) AS m FROM bids AS a JOIN bids AS b ON a.price = b._position GROUP BY a.item

--@ case in_order keys
--@ why ORDER BY is dropped
SELECT b.item, i.kind FROM bids AS b JOIN items AS i ON b.item = i.id ORDER BY b.price

--@ case groups_by_something_else keys
--@ why takes back and adds the rows of its join that a batch changes; below it replaces the rows of the keys that a batch touches (bids.item = items.id)
SELECT i.kind, count(*) AS c FROM bids AS b JOIN items AS i ON b.item = i.id GROUP BY i.kind
--> book | 2

--@ case groups_by_what_may_be_null keys
SELECT i.id, count(*) AS c FROM bids AS b LEFT JOIN items AS i ON b.item = i.id GROUP BY i.id
--> a | 2
--> NULL | 2

--@ case two_keys keys
--@ why (bids.shop = shops.name)
SELECT b.item, i.kind, s.city FROM bids AS b JOIN items AS i ON b.item = i.id JOIN shops AS s ON s.name = b.shop
--> a | book | Chur

--@ case two_keys_left keys
SELECT b.item, i.kind, s.city FROM bids AS b LEFT JOIN items AS i ON b.item = i.id LEFT JOIN shops AS s ON s.name = b.shop WHERE b.price > 1 OR i.kind IS NULL

--@ case two_keys_grouped keys
SELECT s.city, i.kind, sum(b.price) AS total, avg(b.n) AS mean, count(i.id) FILTER (WHERE b.price > 0) AS known FROM bids AS b LEFT JOIN items AS i ON b.item = i.id LEFT JOIN shops AS s ON s.name = b.shop GROUP BY ALL HAVING count(*) > 1

--@ case three_keys keys
SELECT b.item, i.kind, s.city, j.limit_price FROM bids AS b JOIN items AS i ON b.item = i.id JOIN shops AS s ON s.name = b.shop LEFT JOIN items AS j ON j.limit_price = s.rank

--@ case comma keys
SELECT b.item, i.kind, s.city FROM bids AS b, items AS i, shops AS s WHERE b.item = i.id AND s.name = b.shop AND b.price > 0

--@ case where_and_left_join keys
SELECT b.item, b.price, i.kind FROM bids AS b LEFT JOIN items AS i ON b.price < i.limit_price WHERE b.item = i.id

--@ case semi keys
SELECT b.item, b.price FROM bids AS b SEMI JOIN items AS i ON b.item = i.id AND i.limit_price > b.price
--> a | 5

--@ case anti keys
SELECT b.item, b.price FROM bids AS b ANTI JOIN items AS i ON b.item = i.id
--> b | 3
--> NULL | 1

--@ case anti_grouped keys
SELECT b.shop, count(*) AS c FROM bids AS b ANTI JOIN items AS i ON b.item = i.id GROUP BY b.shop
--> x | 2

--@ case other_types recompute
--@ why joins by INTEGER and DECIMAL(18,4)
SELECT b.item, i.kind FROM bids AS b JOIN items AS i ON b.n = i.limit_price

--@ case expression_keys keys
--@ why shops.rank = bids.(price % 3)
SELECT b.item, b.price, s.name FROM shops AS s JOIN bids AS b ON s.rank = b.price % 3

--@ case expression_keys_of_text keys
SELECT b.item, b.price, i.kind FROM bids AS b LEFT JOIN items AS i ON coalesce(upper(b.item), '-') = upper(i.id) || ''

--@ case whole_numbers_of_two_types keys
SELECT b.item, s.name FROM bids AS b JOIN shops AS s ON s.rank = length(b.item) + 0 AND length(b.shop) = s.rank

--@ case keys_that_may_fail recompute
--@ why no equality leads to one key
SELECT b.item, i.kind FROM bids AS b JOIN items AS i ON CAST(b.price AS SMALLINT) = i.limit_price

--@ case no_equality recompute
--@ why no equality leads to one key
SELECT b.item, i.kind FROM bids AS b JOIN items AS i ON b.price < i.limit_price

--@ case right_join recompute
--@ why has a join: RIGHT
SELECT b.item, i.kind FROM bids AS b RIGHT JOIN items AS i ON b.item = i.id

--@ case full_join recompute
--@ why has a join: FULL
SELECT b.item, i.kind FROM bids AS b FULL JOIN items AS i ON b.item = i.id

--@ case asof_join recompute
--@ why has a join: ASOF
SELECT b.item, i.kind FROM bids AS b ASOF JOIN items AS i ON b.item = i.id AND b.price >= i.limit_price
--@ no random

--@ case nested_join recompute
--@ why nests joins
SELECT b.item, i.kind FROM bids AS b JOIN (items AS i JOIN shops AS s ON i.id = s.name) ON b.item = i.id

--@ case using keys
SELECT a.price, item, b.price AS other FROM bids AS a JOIN bids AS b USING (item) WHERE a._position < b._position
--> 5 | a | 9

--@ case using_two keys
SELECT item, shop, a.price FROM bids AS a LEFT JOIN bids AS b USING (item, shop) GROUP BY item, shop, a.price

--@ case using_thrice keys
SELECT item, count(*) AS c FROM bids AS a JOIN bids AS b USING (item) JOIN bids AS c USING (item) GROUP BY item

--@ case using_grouped_by_another keys
SELECT shop, max(b.price) AS most, min(item) AS first FROM bids AS a JOIN bids AS b USING (item, shop) GROUP BY shop

--@ case natural recompute
--@ why has a join: NATURAL
SELECT i.kind FROM items AS i NATURAL JOIN items AS j

--@ case grouped_by_dimension keys
SELECT s.city, count(*) AS c, sum(b.price) AS total, avg(b.n) AS mean FROM bids AS b LEFT JOIN shops AS s ON s.name = b.shop GROUP BY ALL
--> Chur | 3 | 9 | 1.5
--> NULL | 1 | 9 | 2.0

--@ case grouped_by_dimension_holistic keys
SELECT s.city, median(b.price) AS middle, max(b.price) AS most FROM bids AS b LEFT JOIN shops AS s ON s.name = b.shop GROUP BY s.city

--@ case one_group keys
SELECT count(*) AS c, sum(b.price) AS total FROM bids AS b JOIN items AS i ON i.id = b.item
--> 2 | 14

--@ case one_group_of_maxima recompute
--@ why aggregates all rows together
SELECT max(b.price) AS most FROM bids AS b JOIN items AS i ON i.id = b.item

--@ case in_one_of_two_names keys
SELECT kind, count(*) AS c FROM bids JOIN items ON id = item GROUP BY kind

--@ case distinct keys
SELECT DISTINCT i.kind, b.shop FROM bids AS b JOIN items AS i ON b.item = i.id
--> book | x
--> book | y

--@ case distinct_on keys
SELECT DISTINCT ON (i.kind) i.kind, b.price, b.shop FROM bids AS b JOIN items AS i ON b.item = i.id ORDER BY i.kind, b.price DESC, b._position, i._position
--> book | 9 | y

--@ case ordered_aggregate keys
SELECT b.item, list(i.kind ORDER BY b.price, b._position, i._position) AS kinds FROM bids AS b JOIN items AS i ON b.item = i.id GROUP BY b.item
--> a | [book, book]

--@ case newest_value keys
--@ why of the keys that its join changes
SELECT b.shop, last(i.kind ORDER BY b._position, i._position) AS kind FROM bids AS b JOIN items AS i ON b.item = i.id GROUP BY b.shop

--@ case window keys
SELECT b.item, b.price, row_number() OVER (PARTITION BY b.item ORDER BY b._position, i._position) AS n FROM bids AS b JOIN items AS i ON b.item = i.id
--> a | 5 | 1
--> a | 9 | 2

--@ case window_by_another keys
SELECT b.item, i.kind, sum(b.price) OVER (PARTITION BY i.kind ORDER BY b._position, i._position) AS sofar FROM bids AS b LEFT JOIN items AS i ON b.item = i.id

--@ case top_of_a_join keys
SELECT i.kind, b.price, b.shop FROM bids AS b JOIN items AS i ON b.item = i.id QUALIFY row_number() OVER (PARTITION BY i.kind ORDER BY b.price DESC, b._position, i._position) <= 2
--> book | 9 | y
--> book | 5 | x

--@ case qualify_by_alias keys
SELECT i.kind, b.price, rank() OVER (PARTITION BY i.kind ORDER BY b.price DESC) AS place FROM bids AS b JOIN items AS i ON b.item = i.id QUALIFY place <= 1

--@ case window_over_all recompute
--@ why no key in common
SELECT b.item, rank() OVER (ORDER BY b.price, b._position, i._position) AS n FROM bids AS b JOIN items AS i ON b.item = i.id

--@ case in_a_subquery keys
SELECT kind, max(total) AS most FROM (SELECT i.kind, b.shop, sum(b.price) AS total FROM bids AS b JOIN items AS i ON b.item = i.id GROUP BY ALL) GROUP BY kind
--> book | 9

--@ case in_a_with_query keys
WITH known AS (SELECT b.shop, i.kind, b.price FROM bids AS b JOIN items AS i ON b.item = i.id) SELECT kind, count(*) AS c, max(price) AS most FROM known GROUP BY kind

--@ case joins_groups keys
SELECT b.item, b.price, t.c, t.most FROM bids AS b JOIN (SELECT item, count(*) AS c, max(price) AS most FROM bids GROUP BY item) AS t ON t.item = b.item
--> a | 5 | 2 | 9
--> a | 9 | 2 | 9
--> b | 3 | 1 | 3

--@ case joins_two_groups keys
SELECT a.item, a.c, z.kinds FROM (SELECT item, count(*) AS c FROM bids GROUP BY item) AS a LEFT JOIN (SELECT id, count(DISTINCT kind) AS kinds FROM items GROUP BY id) AS z ON a.item = z.id

--@ case joins_a_plain_subquery keys
SELECT b.item, i.kind FROM bids AS b JOIN (SELECT id, upper(kind) AS kind FROM items WHERE limit_price > 0) AS i ON i.id = b.item
--> a | BOOK
--> a | BOOK

--@ case joins_newest keys
SELECT i.kind, n.price FROM items AS i LEFT JOIN (SELECT item, price FROM bids QUALIFY row_number() OVER (PARTITION BY item ORDER BY _position DESC) = 1) AS n ON n.item = i.id
--> book | 9

--@ case joins_a_with_query_twice keys
WITH t AS (SELECT item, shop, sum(price) AS total FROM bids GROUP BY ALL) SELECT a.item, a.shop, a.total, b.total AS other FROM t AS a LEFT JOIN t AS b ON a.item = b.item AND a.shop <> b.shop

--@ case joins_a_join keys
SELECT i.kind, t.c FROM items AS i JOIN (SELECT b.item, count(*) AS c FROM bids AS b JOIN shops AS s ON s.name = b.shop GROUP BY b.item) AS t ON t.item = i.id

--@ case joins_groups_and_groups keys
SELECT i.kind, sum(t.c) AS c FROM items AS i JOIN (SELECT item, count(*) AS c FROM bids GROUP BY item) AS t ON t.item = i.id GROUP BY i.kind
--> book | 2

--@ case lateral recompute
SELECT b.item, t.m FROM bids AS b, LATERAL (SELECT max(i.limit_price) AS m FROM items AS i WHERE i.id = b.item) AS t

--@ case joins_a_union recompute
--@ why combines queries
SELECT b.item, i.id FROM bids AS b JOIN (SELECT id FROM items UNION SELECT kind FROM items) AS i ON i.id = b.item

--@ case subquery recompute
--@ why has subquery in a join
SELECT b.item, i.kind FROM bids AS b JOIN items AS i ON b.item = i.id WHERE b.price = (SELECT max(price) FROM bids)

--@ case star keys
SELECT b.* FROM bids AS b JOIN items AS i ON b.item = i.id

--@ case star_of_a_join recompute
--@ why has star in a join
SELECT * FROM bids AS b SEMI JOIN items AS i ON b.item = i.id

--@ case natural_of_all_columns recompute
SELECT * FROM (SELECT id AS item, kind FROM items) AS i NATURAL JOIN bids
--> a | book | x | 5 | 1.5000
--> a | book | y | 9 | 2.0000

--@ case newest_by_a_value recompute
--@ why in an order that it does not have
SELECT b.item, arg_max(i.kind, b.price) AS kind FROM bids AS b JOIN items AS i ON b.item = i.id GROUP BY b.item
--@ no random

--@ case newest_by_a_value_with_nulls_last recompute
--@ why in an order that it does not have
SELECT b.item, arg_max_nulls_last(i.kind, b.price) AS kind FROM bids AS b JOIN items AS i ON b.item = i.id GROUP BY b.item
--@ no random

--@ case union_of_joins recompute
SELECT b.item, i.kind FROM bids AS b JOIN items AS i ON b.item = i.id UNION ALL SELECT item, shop FROM bids

--@ case window_over_a_window keys
SELECT item, shop, sum(price) OVER (PARTITION BY shop ORDER BY price, item) AS sofar FROM (SELECT b.item, b.shop, b.price FROM bids AS b JOIN items AS i ON b.item = i.id QUALIFY row_number() OVER (PARTITION BY b.item ORDER BY b.price DESC, b._position, i._position) = 1)

--@ case groups_of_groups keys
--@ why takes back and adds the rows of its subquery that a batch changes
SELECT c, count(*) AS items FROM (SELECT item, count(*) AS c FROM bids GROUP BY item) GROUP BY c
--> 1 | 2
--> 2 | 1

--@ case newest_of_groups keys
SELECT c, max(item) AS last FROM (SELECT item, count(*) AS c FROM bids GROUP BY item) AS g GROUP BY g.c

--@ case ties_of_a_subquery keys
--@ reference SELECT item, price, sum(price) OVER (PARTITION BY shop ORDER BY price, p ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS sofar FROM (SELECT item, shop, price, _position AS p FROM bids QUALIFY count(*) OVER (PARTITION BY item) > 1)
SELECT item, price, sum(price) OVER (PARTITION BY shop ORDER BY price ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS sofar FROM (SELECT item, shop, price FROM bids QUALIFY count(*) OVER (PARTITION BY item) > 1)

--@ case three_levels keys
SELECT most, count(*) AS c FROM (SELECT shop, max(n) AS most FROM (SELECT shop, item, count(*) AS n FROM bids GROUP BY ALL) GROUP BY shop) GROUP BY most

--@ case everything_of_groups keys
SELECT count(*) AS c, sum(n) AS n FROM (SELECT item, count(*) AS n FROM bids GROUP BY item)

--@ case star_over_groups recompute
SELECT *, rank() OVER (PARTITION BY n ORDER BY item) AS place FROM (SELECT item, count(*) AS n FROM bids GROUP BY item)

--@ case a_dimension_is_in_the_order_of_its_records recompute
--@ record shops {"name":"x","city":"Bern","rank":1}
--@ record shops {"name":"y","city":"Bern","rank":6}
--@ record shops {"name":"x","city":"Bern","rank":2}
SELECT arg_min(rank, city) AS first FROM shops
--> 6

--@ case unread_column_that_would_fail keys
-- DuckDB computes no column that nobody reads.
SELECT b.price, s.n FROM bids AS b JOIN (SELECT item, count(*) AS n, max(CAST(shop AS INTEGER)) AS worst FROM bids GROUP BY item) AS s ON s.item = b.item
--> 5 | 2
--> 9 | 2
--> 3 | 1

--@ case unread_column_below keys
SELECT max(n) AS most FROM (SELECT kind, n, CAST(kind AS INTEGER) AS worst FROM (SELECT i.kind, count(*) AS n FROM bids AS b JOIN items AS i ON i.id = b.item GROUP BY i.kind)) GROUP BY kind
--> 2

--@ case a_column_read_by_its_alias_below keys
SELECT b.price, s.n FROM bids AS b JOIN (SELECT item, count(*) AS n, max(price) AS top FROM bids GROUP BY item HAVING top > 5) AS s ON s.item = b.item
--> 5 | 2
--> 9 | 2

--@ case unread_column_of_group_by_all keys
SELECT b.price, s.n FROM bids AS b JOIN (SELECT item, count(*) AS n, max(CAST(shop AS INTEGER)) AS worst FROM bids GROUP BY ALL) AS s ON s.item = b.item
--> 5 | 2
--> 9 | 2
--> 3 | 1

--@ case joined_with_queries_that_hide_one_another keys
--@ record bids {"item":"a","price":5}
--@ record bids {"item":"a","price":9}
--@ record items {"id":"a","kind":"book"}
WITH a AS (SELECT item, price FROM bids) SELECT i.kind, b.price FROM items AS i JOIN (WITH a AS (SELECT * FROM a WHERE price > 5) SELECT item, price FROM a) AS b ON b.item = i.id
--> book | 9

-- What is joined to nothing has no key, unless coalesce() makes one.
--@ case coalesced_key_of_an_outer_row keys
--@ no random
--@ record bids {"item":"oslo","price":1}
--@ record items {"id":"rome"}
--@ record shops {"name":"eth","rank":7}
SELECT b.price, s.rank FROM bids AS b LEFT JOIN items AS i ON b.item = coalesce(i.id, 'eth') JOIN shops AS s ON s.name = coalesce(i.id, 'eth')
--> 1 | 7

--@ case left_join_by_a_coalesced_key_of_an_outer_row keys
--@ no random
--@ record bids {"item":"oslo","price":1}
--@ record shops {"name":"eth","rank":7}
SELECT b.price, s.rank FROM bids AS b LEFT JOIN items AS i ON b.item = coalesce(i.id, 'eth') LEFT JOIN shops AS s ON s.name = coalesce(i.id, 'eth')
--> 1 | 7


-- A unit out of a record may be none: no key is made of it.
--@ case guarded_unit recompute
--@ no random
--@ record timed {"kind":"x","unit":"day","t":"2026-01-01T10:00:00"}
--@ record timed {"kind":"y","unit":"fortnight","t":"2026-01-01T10:00:00"}
--@ record days {"day":"2026-01-01T00:00:00","name":"new year"}
--@ quarantined 0
SELECT a.kind, b.name FROM timed AS a JOIN days AS b ON date_trunc(a.unit, a.t) = b.day WHERE a.kind = 'x'
--> x | new year

--@ case by_the_day keys
SELECT a.kind, b.name FROM timed AS a JOIN days AS b ON date_trunc('day', a.t) = time_bucket(INTERVAL 1 DAY, b.day)

--@ case whole_rows_of_a_joined_relation recompute
--@ why takes whole rows by the name of their relation
SELECT b.item, b.price, to_json(i) AS doc FROM bids AS b JOIN items AS i ON b.item = i.id

-- With a star beside it or without, a whole row is what the declaration says.
--@ case whole_rows_beside_a_star recompute
--@ why takes whole rows by the name of their relation
--@ record bids {"item":"a","shop":"x","price":5}
--@ record items {"id":"a","kind":"book"}
SELECT b.*, to_json(i) AS doc FROM bids AS b JOIN items AS i ON b.item = i.id
--> a | x | 5 | NULL | {"id":"a","kind":"book","limit_price":null}

--@ case whole_rows_beside_the_star_of_all recompute
--@ record bids {"item":"a","shop":"x","price":5}
--@ record items {"id":"a","kind":"book"}
SELECT *, to_json(i) AS doc FROM bids AS b JOIN items AS i ON b.item = i.id
--> a | x | 5 | NULL | a | book | NULL | {"id":"a","kind":"book","limit_price":null}

--@ case chosen_columns recompute
--@ record bids {"item":"a","shop":7,"price":5}
--@ record items {"id":"a","kind":"book","limit_price":"none"}
--@ quarantined 0
SELECT COLUMNS(c -> c IN ('price', 'kind')) FROM bids AS b JOIN items AS i ON b.item = i.id
--> 5 | book
