-- Prisma: the table of an implicit relation of many to many, of which A is the Post and B the User.
CREATE TABLE "User" (id text PRIMARY KEY, name text);
CREATE TABLE "Post" (
  id text PRIMARY KEY,
  title text NOT NULL,
  "authorId" text NOT NULL REFERENCES "User" ON UPDATE CASCADE ON DELETE RESTRICT,
  "viewCount" integer NOT NULL DEFAULT 0
);
CREATE TABLE "_ViewedPosts" (
  "A" text NOT NULL REFERENCES "Post" ON UPDATE CASCADE ON DELETE CASCADE,
  "B" text NOT NULL REFERENCES "User" ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE UNIQUE INDEX "_ViewedPosts_AB_unique" ON "_ViewedPosts" ("A", "B");
CREATE INDEX "_ViewedPosts_B_index" ON "_ViewedPosts" ("B");
INSERT INTO "User" VALUES ('clv1ann00000008l4abcd', 'Ann'), ('clv1boris000008l4abcd', 'Boris'), ('clv1clara000008l4abcd', 'Clara');
INSERT INTO "Post" VALUES ('clv2post000000al4efgh', 'A post', 'clv1ann00000008l4abcd', 0);
INSERT INTO "_ViewedPosts" VALUES
  ('clv2post000000al4efgh', 'clv1ann00000008l4abcd'), ('clv2post000000al4efgh', 'clv1boris000008l4abcd'),
  ('clv2post000000al4efgh', 'clv1clara000008l4abcd');
