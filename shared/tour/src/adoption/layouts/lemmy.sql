-- Lemmy: who has read which post, found by the reader, and no count of it.
CREATE TABLE person (id serial PRIMARY KEY, name varchar(255) NOT NULL);
CREATE TABLE post (
  id serial PRIMARY KEY,
  name varchar(200) NOT NULL,
  creator_id integer NOT NULL REFERENCES person ON UPDATE CASCADE ON DELETE CASCADE,
  removed boolean NOT NULL DEFAULT false,
  published timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE post_read (
  post_id integer NOT NULL REFERENCES post ON UPDATE CASCADE ON DELETE CASCADE,
  person_id integer NOT NULL REFERENCES person ON UPDATE CASCADE ON DELETE CASCADE,
  published timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (person_id, post_id)
);
INSERT INTO person VALUES (1, 'ann'), (2, 'boris'), (3, 'clara'), (4, 'dora');
INSERT INTO post VALUES (7, 'A post', 1), (8, 'Another', 2);
INSERT INTO post_read (post_id, person_id) VALUES (7, 1), (7, 2), (7, 3), (8, 1);
