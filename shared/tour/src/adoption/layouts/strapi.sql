-- Strapi 5: every relation has a table of its own, also that of the author.
CREATE TABLE up_users (id serial PRIMARY KEY, document_id varchar(255), username varchar(255));
CREATE TABLE articles (id serial PRIMARY KEY, document_id varchar(255), title varchar(255), views integer, published_at timestamp(6));
CREATE TABLE articles_author_lnk (
  id serial PRIMARY KEY,
  article_id integer REFERENCES articles ON DELETE CASCADE,
  user_id integer REFERENCES up_users ON DELETE CASCADE,
  UNIQUE (article_id, user_id)
);
CREATE TABLE articles_viewers_lnk (
  id serial PRIMARY KEY,
  article_id integer REFERENCES articles ON DELETE CASCADE,
  user_id integer REFERENCES up_users ON DELETE CASCADE,
  user_ord double precision,
  UNIQUE (article_id, user_id)
);
INSERT INTO up_users VALUES (1, 'a1', 'ann'), (2, 'b2', 'boris'), (3, 'c3', 'clara'), (4, 'd4', 'dora');
INSERT INTO articles VALUES (7, 'xk2z9', 'An article', NULL, now());
INSERT INTO articles_author_lnk (article_id, user_id) VALUES (7, 1);
INSERT INTO articles_viewers_lnk (article_id, user_id, user_ord) VALUES (7, 2, 1), (7, 3, 2);
CREATE VIEW counted_articles AS
  SELECT a.id, (SELECT l.user_id FROM articles_author_lnk l WHERE l.article_id = a.id LIMIT 1) AS author_id, a.views FROM articles a;
