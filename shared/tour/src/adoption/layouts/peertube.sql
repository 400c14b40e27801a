-- PeerTube: the author of a video is the user of the account of its channel; most of its views are of people without an account.
CREATE TABLE "user" (id serial PRIMARY KEY, username varchar(255) NOT NULL UNIQUE);
CREATE TABLE account (id serial PRIMARY KEY, name varchar(255) NOT NULL, "userId" integer REFERENCES "user" ON DELETE CASCADE);
CREATE TABLE "videoChannel" (
  id serial PRIMARY KEY,
  name varchar(255) NOT NULL,
  "accountId" integer NOT NULL REFERENCES account ON DELETE CASCADE
);
CREATE TABLE video (
  id serial PRIMARY KEY,
  uuid uuid NOT NULL UNIQUE,
  name varchar(255) NOT NULL,
  views integer NOT NULL DEFAULT 0,
  remote boolean NOT NULL,
  "channelId" integer NOT NULL REFERENCES "videoChannel" ON DELETE CASCADE,
  "publishedAt" timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE "userVideoHistory" (
  id serial PRIMARY KEY,
  "currentTime" integer NOT NULL,
  "videoId" integer NOT NULL REFERENCES video ON DELETE CASCADE,
  "userId" integer NOT NULL REFERENCES "user" ON DELETE CASCADE,
  "createdAt" timestamptz NOT NULL
);
CREATE UNIQUE INDEX user_video_history_user_id_video_id ON "userVideoHistory" ("userId", "videoId");
CREATE INDEX user_video_history_video_id ON "userVideoHistory" ("videoId");
INSERT INTO "user" VALUES (1, 'ann'), (2, 'boris'), (3, 'clara'), (4, 'dora');
INSERT INTO account VALUES (10, 'ann', 1);
INSERT INTO "videoChannel" VALUES (100, 'ann_channel', 10);
INSERT INTO video VALUES (7, '9c9de5e8-0a1e-484a-b099-e80766180a6d', 'A video', 12345, false, 100);
INSERT INTO "userVideoHistory" ("currentTime", "videoId", "userId", "createdAt") VALUES
  (10, 7, 1, '2024-05-01'), (20, 7, 2, '2024-05-02'), (30, 7, 3, '2024-05-03');
-- What the programs see: the site's own videos, each with its author.
CREATE VIEW counted_videos AS
  SELECT v.id, (SELECT a."userId" FROM "videoChannel" c JOIN account a ON a.id = c."accountId" WHERE c.id = v."channelId") AS author_id, v.views
  FROM video v WHERE NOT v.remote;
