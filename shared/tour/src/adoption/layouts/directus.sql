-- Directus: the junction table of a field of many to many.
CREATE TABLE directus_users (id uuid PRIMARY KEY, email varchar(255) UNIQUE);
CREATE TABLE articles (
  id uuid PRIMARY KEY,
  status varchar(255) NOT NULL DEFAULT 'draft',
  user_created uuid REFERENCES directus_users,
  date_created timestamptz,
  title varchar(255),
  views integer DEFAULT 0
);
CREATE TABLE articles_directus_users (
  id serial PRIMARY KEY,
  articles_id uuid REFERENCES articles ON DELETE SET NULL,
  directus_users_id uuid REFERENCES directus_users ON DELETE SET NULL
);
INSERT INTO directus_users VALUES
  ('00000000-0000-4000-8000-00000000000a', 'ann@example.com'), ('00000000-0000-4000-8000-00000000000b', 'boris@example.com'),
  ('00000000-0000-4000-8000-00000000000c', 'clara@example.com');
INSERT INTO articles VALUES ('11111111-0000-4000-8000-000000000007', 'published', '00000000-0000-4000-8000-00000000000a', now(), 'An article', 3);
INSERT INTO articles_directus_users (articles_id, directus_users_id) VALUES
  ('11111111-0000-4000-8000-000000000007', '00000000-0000-4000-8000-00000000000b'),
  ('11111111-0000-4000-8000-000000000007', NULL), (NULL, '00000000-0000-4000-8000-00000000000c'), (NULL, NULL);
