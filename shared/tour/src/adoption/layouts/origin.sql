-- The service that this project takes the place of: arrays of viewers, and no count.
CREATE TABLE "User" (id text PRIMARY KEY, email text NOT NULL UNIQUE);
CREATE TABLE "Post" (
  id text PRIMARY KEY,
  "authorId" text NOT NULL REFERENCES "User" ON UPDATE CASCADE ON DELETE RESTRICT,
  content text,
  views text[] DEFAULT ARRAY[]::text[],
  "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
INSERT INTO "User" VALUES ('usr_ann', 'ann@example.com'), ('usr_boris', 'boris@example.com'), ('usr_clara', 'clara@example.com');
INSERT INTO "Post" (id, "authorId", views) VALUES
  ('550e8400-e29b-41d4-a716-446655440000', 'usr_ann', '{usr_boris,usr_clara,usr_boris,usr_ann,NULL}'),
  ('550e8400-e29b-41d4-a716-446655440001', 'usr_boris', '{}');
