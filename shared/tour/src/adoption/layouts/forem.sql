-- Forem: views with weights and repetitions, and a count of them in the article.
CREATE TABLE users (id bigserial PRIMARY KEY, username varchar NOT NULL);
CREATE TABLE articles (
  id bigserial PRIMARY KEY,
  title varchar,
  user_id bigint REFERENCES users ON DELETE CASCADE,
  page_views_count integer DEFAULT 0,
  published boolean DEFAULT false,
  created_at timestamp NOT NULL DEFAULT now(),
  updated_at timestamp NOT NULL DEFAULT now()
);
CREATE TABLE page_views (
  id bigserial PRIMARY KEY,
  article_id bigint REFERENCES articles ON DELETE CASCADE,
  user_id bigint REFERENCES users ON DELETE SET NULL,
  counts_for_number_of_views integer DEFAULT 1,
  time_tracked_in_seconds integer DEFAULT 15,
  referrer varchar,
  user_agent varchar,
  created_at timestamp NOT NULL DEFAULT now(),
  updated_at timestamp NOT NULL DEFAULT now()
);
CREATE INDEX index_page_views_on_article_id ON page_views (article_id);
CREATE INDEX index_page_views_on_user_id ON page_views (user_id);
INSERT INTO users VALUES (1, 'ann'), (2, 'boris'), (3, 'clara'), (4, 'dora');
INSERT INTO articles (id, title, user_id, page_views_count, published) VALUES (7, 'An article', 1, 31, true), (8, 'Another', 2, 0, true);
INSERT INTO page_views (article_id, user_id, counts_for_number_of_views) VALUES
  (7, 2, 1), (7, 2, 1), (7, 3, 1), (7, NULL, 10), (7, 1, 1), (8, 3, 1);
