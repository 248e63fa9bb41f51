-- The marts in one script, as somebody would write it who wants the tables and nothing else: each file is read once, by
-- DuckDB's own readers, and what is not needed is dropped while reading. No raw tables, quarantine, keys that last,
-- checks or versions. It is what `make bench` holds the pipeline against; its rows are equal to the pipeline's on sound
-- files read into a new home.
--
-- The variables `movielens` and `imdb` name the folders, `edition` the edition.

CREATE SCHEMA marts;

CREATE MACRO move_article(title) AS regexp_replace(
    regexp_replace(title, '^(.+), ([LlDd]''|Un'')$', '\2\1'),
    '^(.+), (The|the|A|An|Le|La|Les|Un|Une|Il|Lo|Gli|I|Una|Uno|El|Los|Las|Der|Die|Das|Ein|Eine|O|Os|As|Det|Den|De|Het|En|Ett|Da)$',
    '\2 \1'
);

CREATE MACRO title_key(title) AS trim(regexp_replace(
    replace(
        regexp_replace(strip_accents(lower(regexp_replace(title, '&#?\w+;', ' ', 'g'))), '[''’‘`´]', '', 'g'),
        '&', ' and '
    ),
    '[^\p{L}\p{M}\p{N}]+', ' ', 'g'
));

CREATE MACRO telling_genres() AS [
    'Documentary', 'Animation', 'Horror', 'Western', 'War', 'Musical', 'Film-Noir', 'Sci-Fi', 'Children', 'Fantasy',
    'Mystery', 'Crime', 'Romance', 'Action', 'Adventure', 'Thriller', 'Comedy', 'Drama'
];

CREATE MACRO listed(texts) AS if(texts IS NULL, [], string_split(texts, ','));

-- MovieLens ----------------------------------------------------------------------------------------------------------

CREATE TEMP TABLE ratings AS
SELECT "userId" AS user_id, "movieId" AS movie_id, rating, make_timestamp("timestamp" * 1000000) AS rated_at
FROM read_csv(
    getvariable('movielens') || '/ratings.csv', header = true, auto_detect = false, delim = ',', quote = '"',
    columns = {'userId': 'INTEGER', 'movieId': 'INTEGER', 'rating': 'DECIMAL(2,1)', 'timestamp': 'BIGINT'}
);

CREATE TEMP TABLE tags AS
SELECT "userId" AS user_id, "movieId" AS movie_id, trim(tag) AS tag, make_timestamp("timestamp" * 1000000) AS tagged_at
FROM read_csv(
    getvariable('movielens') || '/tags.csv', header = true, auto_detect = false, delim = ',', quote = '"', escape = '"',
    columns = {'userId': 'INTEGER', 'movieId': 'INTEGER', 'tag': 'VARCHAR', 'timestamp': 'BIGINT'}
);

CREATE TEMP TABLE users AS
SELECT user_id, row_number() OVER (ORDER BY user_id) AS user_key
FROM (SELECT user_id FROM ratings UNION SELECT user_id FROM tags);

CREATE TEMP TABLE movies AS
WITH listed_movies AS (
    SELECT
        "movieId" AS movie_id,
        title AS source_title,
        if(
            genres IS NULL OR genres = '(no genres listed)', [],
            string_split(replace(genres, 'Children''s', 'Children'), '|')
        ) AS genres,
        try_cast(
            nullif(
                regexp_extract(title, '\((\d{4})(?:\s*[-–—]\s*(?:\d{4})?)?\)(?:\s*\((?:V|TV|VG|[IVX]+)\))*\s*$', 1),
                ''
            ) AS INTEGER
        ) AS year,
        trim(regexp_replace(title, '\((\d{4})(?:\s*[-–—]\s*(?:\d{4})?)?\)(?:\s*\((?:V|TV|VG|[IVX]+)\))*\s*$', ''))
            AS full_title
    FROM read_csv(
        getvariable('movielens') || '/movies.csv', header = true, auto_detect = false, delim = ',', quote = '"',
        escape = '"', columns = {'movieId': 'INTEGER', 'title': 'VARCHAR', 'genres': 'VARCHAR'}
    )
),
split AS (
    SELECT
        *,
        trim(regexp_replace(full_title, '((?:\s+\([^()]*\))+)\s*$', '')) AS before,
        regexp_extract(full_title, '((?:\s+\([^()]*\))+)\s*$', 1) AS brackets,
        before = '' OR regexp_matches(before, '(?i)(?:[:-]|\bor)$') AS whole
    FROM listed_movies
),
titled AS (
    SELECT
        movie_id, genres, year, nullif(full_title, '') AS full_title,
        CASE
            WHEN full_title = '' THEN source_title WHEN whole THEN move_article(full_title) ELSE move_article(before)
        END AS title,
        if(whole, [], regexp_extract_all(brackets, '\(([^()]*)\)', 1)) AS bracketed
    FROM split
),
counted AS (SELECT movie_id, count(*) AS rating_count FROM ratings GROUP BY movie_id),
linked AS (
    SELECT "movieId" AS movie_id, 'tt' || lpad("imdbId", greatest(7, length("imdbId"))::INTEGER, '0') AS tconst
    FROM read_csv(
        getvariable('movielens') || '/links.csv', header = true, auto_detect = false, delim = ',', quote = '"',
        columns = {'movieId': 'INTEGER', 'imdbId': 'VARCHAR', 'tmdbId': 'BIGINT'}
    )
),
described AS (
    SELECT
        ids.movie_id, titled.* EXCLUDE (movie_id), linked.tconst AS linked_tconst, title_key(title) AS title_key,
        coalesce(rating_count, 0) AS rating_count,
        CASE
            WHEN linked_tconst IS NOT NULL THEN linked_tconst
            WHEN title_key != '' AND year IS NOT NULL
                THEN title_key || '|' || year || '|' || array_to_string(list_sort(genres), ',')
            ELSE 'id ' || ids.movie_id
        END AS film
    FROM (SELECT movie_id FROM titled UNION SELECT movie_id FROM counted UNION SELECT movie_id FROM tags) AS ids
    LEFT JOIN titled USING (movie_id) LEFT JOIN linked USING (movie_id) LEFT JOIN counted USING (movie_id)
)
SELECT
    *, min(movie_id) OVER (PARTITION BY film) AS film_id,
    row_number() OVER (PARTITION BY film ORDER BY rating_count DESC, movie_id) = 1 AS is_lead
FROM described;

-- Which IMDb title a film without a link is --------------------------------------------------------------------------

CREATE TEMP TABLE basics AS
SELECT
    tconst, "titleType" AS title_type, "primaryTitle" AS primary_title, "originalTitle" AS original_title,
    "isAdult" = '1' AS is_adult, "startYear" AS start_year, "runtimeMinutes" AS runtime_minutes,
    listed(genres) AS genres
FROM read_csv(
    getvariable('imdb') || '/title.basics.tsv.gz', header = true, auto_detect = false, delim = '\t', quote = '',
    escape = '', nullstr = '\N',
    columns = {
        'tconst': 'VARCHAR', 'titleType': 'VARCHAR', 'primaryTitle': 'VARCHAR', 'originalTitle': 'VARCHAR',
        'isAdult': 'VARCHAR', 'startYear': 'INTEGER', 'endYear': 'INTEGER', 'runtimeMinutes': 'INTEGER',
        'genres': 'VARCHAR'
    }
);

CREATE TEMP TABLE votes AS
FROM read_csv(
    getvariable('imdb') || '/title.ratings.tsv.gz', header = true, auto_detect = false, delim = '\t', quote = '',
    escape = '', nullstr = '\N',
    columns = {'tconst': 'VARCHAR', 'averageRating': 'DECIMAL(3,1)', 'numVotes': 'INTEGER'}
);

CREATE TEMP TABLE wanted AS
WITH unlinked AS (SELECT * FROM movies WHERE linked_tconst IS NULL AND year IS NOT NULL),
brackets AS (
    SELECT
        film_id, year, regexp_matches(bracket, '(?i)^\s*a\.?k\.?a\.?\s') AS aka,
        trim(regexp_replace(bracket, '(?i)^\s*a\.?k\.?a\.?\s+', '')) AS title
    FROM (SELECT film_id, year, unnest(bracketed) AS bracket FROM unlinked)
),
titles AS (
    SELECT film_id, year, unnest([title, full_title, move_article(full_title)]) AS title, 'main' AS role FROM unlinked
    UNION ALL SELECT film_id, year, move_article(title), 'alternative' FROM brackets
    UNION ALL SELECT film_id, year, unnest(string_split(title, ', ')), 'alternative' FROM brackets
        WHERE aka AND title LIKE '%, %'
)
SELECT film_id, year, title_key(title) AS title_key, max(role) AS role
FROM titles WHERE length(title_key(title)) > 1 GROUP BY ALL;

CREATE TEMP TABLE episodes AS
SELECT
    tconst, "parentTconst" AS parent_tconst, "seasonNumber" AS season_number, "episodeNumber" AS episode_number
FROM read_csv(
    getvariable('imdb') || '/title.episode.tsv.gz', header = true, auto_detect = false, delim = '\t', quote = '',
    escape = '', nullstr = '\N',
    columns = {'tconst': 'VARCHAR', 'parentTconst': 'VARCHAR', 'seasonNumber': 'INTEGER', 'episodeNumber': 'INTEGER'}
);

CREATE TEMP TABLE films AS
SELECT tconst, start_year, primary_title, original_title, genres
FROM basics
WHERE
    coalesce(
        title_type NOT IN (
            'tvEpisode', 'tvSeries', 'tvMiniSeries', 'tvPilot', 'videoGame', 'radioSeries', 'radioEpisode',
            'podcastSeries', 'podcastEpisode', 'musicVideo', 'audiobook'
        ), true
    )
    AND start_year IN (SELECT unnest([year - 1, year, year + 1]) FROM wanted)
    AND tconst NOT IN (SELECT tconst FROM episodes);

CREATE TEMP TABLE popular AS
SELECT tconst
FROM basics
WHERE
    tconst IN (SELECT tconst FROM votes WHERE "numVotes" >= 1000)
    AND tconst NOT IN (SELECT tconst FROM episodes)
    AND (title_type IS NULL OR title_type IN ('movie', 'tvMovie', 'video'))
    AND is_adult IS NOT true AND NOT list_contains(genres, 'Adult');

CREATE TEMP TABLE akas AS
SELECT "titleId" AS tconst, title, region, language, "isOriginalTitle" = '1' AS is_original_title
FROM read_csv(
    getvariable('imdb') || '/title.akas.tsv.gz', header = true, auto_detect = false, delim = '\t', quote = '',
    escape = '', nullstr = '\N',
    columns = {
        'titleId': 'VARCHAR', 'ordering': 'INTEGER', 'title': 'VARCHAR', 'region': 'VARCHAR', 'language': 'VARCHAR',
        'types': 'VARCHAR', 'attributes': 'VARCHAR', 'isOriginalTitle': 'VARCHAR'
    }
)
WHERE "titleId" IN (
    SELECT tconst FROM films UNION SELECT tconst FROM popular UNION SELECT linked_tconst FROM movies
);

CREATE TEMP TABLE matched AS
WITH names AS (
    SELECT tconst, start_year, primary_title AS title, 'own' AS name_role FROM films
    UNION ALL SELECT tconst, start_year, original_title, 'own' FROM films
    UNION ALL SELECT films.tconst, films.start_year, akas.title, 'aka' FROM akas INNER JOIN films USING (tconst)
),
pairs AS (
    SELECT
        wanted.film_id, names.tconst, wanted.year != start_year AS near, role = 'main' AND name_role = 'own' AS plain,
        CASE WHEN near THEN if(plain, 3, 4) WHEN plain THEN 1 ELSE 2 END AS match_rank
    FROM wanted INNER JOIN names ON wanted.title_key = title_key(names.title)
    WHERE abs(wanted.year - start_year) <= 1
),
agreeing AS (
    SELECT pairs.film_id, tconst, min(match_rank) AS match_rank
    FROM pairs
    INNER JOIN films USING (tconst)
    INNER JOIN movies ON pairs.film_id = movies.movie_id
    WHERE
        NOT near OR coalesce(len(movies.genres), 0) = 0 OR len(films.genres) = 0
        OR list_has_any(movies.genres, films.genres)
        OR (list_contains(movies.genres, 'Children') AND list_contains(films.genres, 'Family'))
        OR (list_contains(movies.genres, 'Musical') AND list_contains(films.genres, 'Music'))
    GROUP BY ALL
),
preferred AS (
    SELECT
        agreeing.*, count(*) OVER (PARTITION BY film_id, match_rank) AS rivals,
        row_number() OVER (
            PARTITION BY film_id ORDER BY match_rank, coalesce("numVotes", 0) DESC, length(tconst), tconst
        ) AS preference
    FROM agreeing LEFT JOIN votes USING (tconst)
),
claimed AS (
    SELECT
        film_id, tconst, match_rank, rivals,
        row_number() OVER (PARTITION BY tconst ORDER BY match_rank, film_ratings DESC, film_id) AS claim
    FROM preferred
    INNER JOIN (SELECT film_id, sum(rating_count) AS film_ratings FROM movies GROUP BY film_id) USING (film_id)
    WHERE preference = 1
        AND tconst NOT IN (SELECT linked_tconst FROM movies WHERE linked_tconst IS NOT NULL)
)
SELECT film_id, linked_tconst AS tconst, 'link' AS match_method, 1.0 AS match_confidence
FROM movies WHERE linked_tconst IS NOT NULL GROUP BY ALL
UNION ALL
SELECT
    film_id, tconst,
    CASE WHEN match_rank >= 3 THEN 'near_year' WHEN match_rank = 1 THEN 'title_year' ELSE 'aka_title_year' END,
    CASE match_rank WHEN 1 THEN 0.95 WHEN 2 THEN 0.85 WHEN 3 THEN 0.70 ELSE 0.60 END - if(rivals > 1, 0.10, 0)
FROM claimed WHERE claim = 1;

CREATE TEMP TABLE keyed AS
SELECT movies.*, movie_key, tconst, match_method, match_confidence
FROM movies
INNER JOIN (
    SELECT film_id, row_number() OVER (ORDER BY film_id) AS movie_key FROM (SELECT DISTINCT film_id FROM movies)
) USING (film_id)
LEFT JOIN matched USING (film_id);

CREATE TEMP TABLE catalogue AS
SELECT
    movie_key, getvariable('edition') AS edition, movie_id, movie_ids, true AS in_movielens, tconst,
    coalesce(match_method, 'unmatched') AS match_method, coalesce(match_confidence, 0) AS match_confidence, title,
    bracketed, year, genres
FROM keyed
INNER JOIN (SELECT movie_key, list(movie_id ORDER BY movie_id) AS movie_ids FROM keyed GROUP BY movie_key)
    USING (movie_key)
WHERE is_lead
UNION ALL
SELECT
    (SELECT max(movie_key) FROM keyed) + row_number() OVER (ORDER BY tconst), NULL, NULL, [], false, tconst,
    'imdb_only', 1, NULL, [], NULL, NULL
FROM popular
WHERE tconst NOT IN (SELECT tconst FROM matched WHERE tconst IS NOT NULL);

-- Ratings ------------------------------------------------------------------------------------------------------------

CREATE TABLE marts.fct_ratings AS
SELECT
    user_key, movie_key, getvariable('edition') AS edition,
    arg_max(
        rating, epoch_us(rated_at)::HUGEINT * 1000000000000 + movie_id::HUGEINT * 100 + (rating * 10)::INTEGER
    ) AS rating,
    max(rated_at) AS rated_at, count(*)::INTEGER AS times_rated
FROM ratings INNER JOIN users USING (user_id) INNER JOIN keyed USING (movie_id)
GROUP BY user_key, movie_key;

CREATE TABLE marts.dim_users AS
SELECT
    user_key, getvariable('edition') AS edition, user_id, NULL::VARCHAR AS gender, NULL::INTEGER AS age,
    NULL::VARCHAR AS occupation, NULL::VARCHAR AS zip_code, coalesce(rating_count, 0)::INTEGER AS rating_count,
    first_rated_at, last_rated_at
FROM users
LEFT JOIN (
    SELECT user_key, count(*) AS rating_count, min(rated_at) AS first_rated_at, max(rated_at) AS last_rated_at
    FROM marts.fct_ratings GROUP BY user_key
) USING (user_key);

CREATE TABLE marts.fct_tags AS
SELECT user_key, movie_key, tag, max(tagged_at) AS tagged_at
FROM tags INNER JOIN users USING (user_id) INNER JOIN keyed USING (movie_id)
WHERE tag != ''
GROUP BY ALL;

-- Films and people ---------------------------------------------------------------------------------------------------

CREATE TEMP TABLE credits AS
WITH titles AS (SELECT tconst FROM catalogue WHERE tconst IS NOT NULL),
crew AS (
    SELECT tconst, listed(directors) AS directors, listed(writers) AS writers
    FROM read_csv(
        getvariable('imdb') || '/title.crew.tsv.gz', header = true, auto_detect = false, delim = '\t', quote = '',
        escape = '', nullstr = '\N', columns = {'tconst': 'VARCHAR', 'directors': 'VARCHAR', 'writers': 'VARCHAR'}
    )
    WHERE tconst IN (FROM titles)
),
every AS (
    SELECT
        tconst, nconst, category, ordering, job, json_extract_string(characters, '$[*]') AS characters,
        NULL::BIGINT AS crew_position
    FROM read_csv(
        getvariable('imdb') || '/title.principals.tsv.gz', header = true, auto_detect = false, delim = '\t', quote = '',
        escape = '', nullstr = '\N',
        columns = {
            'tconst': 'VARCHAR', 'ordering': 'INTEGER', 'nconst': 'VARCHAR', 'category': 'VARCHAR', 'job': 'VARCHAR',
            'characters': 'VARCHAR'
        }
    )
    WHERE tconst IN (FROM titles)
    UNION ALL
    SELECT tconst, unnest(directors), 'director', NULL, NULL, NULL, generate_subscripts(directors, 1) FROM crew
    UNION ALL
    SELECT tconst, unnest(writers), 'writer', NULL, NULL, NULL, generate_subscripts(writers, 1) FROM crew
)
SELECT
    tconst, nconst, category, min(ordering) AS ordering, arg_min(job, ordering) AS job,
    arg_min(characters, ordering) AS characters, min(crew_position)::INTEGER AS crew_position
FROM every
WHERE nconst IS NOT NULL AND category IS NOT NULL
GROUP BY ALL;

CREATE TEMP TABLE people AS
SELECT
    nconst, "primaryName" AS name, "birthYear" AS birth_year, "deathYear" AS death_year,
    listed("primaryProfession") AS professions, listed("knownForTitles") AS known_for_tconsts
FROM read_csv(
    getvariable('imdb') || '/name.basics.tsv.gz', header = true, auto_detect = false, delim = '\t', quote = '',
    escape = '', nullstr = '\N',
    columns = {
        'nconst': 'VARCHAR', 'primaryName': 'VARCHAR', 'birthYear': 'INTEGER', 'deathYear': 'INTEGER',
        'primaryProfession': 'VARCHAR', 'knownForTitles': 'VARCHAR'
    }
)
WHERE nconst IN (SELECT nconst FROM credits);

CREATE TABLE marts.fct_credits AS
SELECT movie_key, tconst, nconst, people.name AS person_name, category, ordering, job, characters
FROM credits
INNER JOIN (SELECT movie_key, tconst FROM catalogue) USING (tconst)
LEFT JOIN people USING (nconst);

CREATE TEMP TABLE our_episodes AS
FROM episodes
WHERE parent_tconst IN (SELECT tconst FROM catalogue WHERE tconst IS NOT NULL)
    OR tconst IN (SELECT tconst FROM catalogue WHERE tconst IS NOT NULL);

CREATE TABLE marts.dim_movies AS
WITH rated AS (
    SELECT movie_key, count(*) AS rating_count, sum(rating) AS stars FROM marts.fct_ratings GROUP BY movie_key
),
roles AS (
    SELECT
        tconst, nconst, if(category IN ('actor', 'actress', 'self'), 'cast', category) AS role, min(name) AS name,
        min(crew_position) AS crew_position, min(ordering) AS ordering
    FROM credits INNER JOIN people USING (nconst)
    WHERE category IN ('director', 'writer', 'actor', 'actress', 'self') AND name IS NOT NULL
    GROUP BY ALL
),
makers AS (
    SELECT
        tconst, list(name ORDER BY crew_position, ordering, nconst) FILTER (WHERE role = 'director') AS directors,
        list(name ORDER BY crew_position, ordering, nconst) FILTER (WHERE role = 'writer') AS writers,
        list(name ORDER BY ordering, nconst) FILTER (WHERE role = 'cast') AS principal_cast
    FROM roles GROUP BY tconst
),
series AS (
    SELECT
        parent_tconst AS tconst, count(DISTINCT season_number)::INTEGER AS season_count,
        count(*)::INTEGER AS episode_count
    FROM our_episodes GROUP BY parent_tconst
),
parents AS (
    SELECT our_episodes.tconst, primary_title AS series_title
    FROM our_episodes INNER JOIN basics ON parent_tconst = basics.tconst
),
joined AS (
    SELECT
        movie_key, edition, movie_id, movie_ids, in_movielens, tconst,
        coalesce(catalogue.title, basics.primary_title, 'unknown') AS title,
        coalesce(basics.original_title, move_article(trim(catalogue.bracketed[1]))) AS original_title,
        coalesce(catalogue.year, basics.start_year) AS year,
        if(
            in_movielens, coalesce(catalogue.genres, []),
            coalesce(
                list_sort(list_distinct(list_filter(
                    list_transform(
                        basics.genres,
                        lambda g: CASE g WHEN 'Family' THEN 'Children' WHEN 'Music' THEN 'Musical' ELSE g END
                    ),
                    lambda g: list_contains(telling_genres(), g)
                ))), []
            )
        ) AS genres,
        coalesce(basics.genres, []) AS imdb_genres, title_type, runtime_minutes, is_adult,
        "averageRating" AS imdb_rating, "numVotes" AS imdb_votes, coalesce(directors, []) AS directors,
        coalesce(writers, []) AS writers, coalesce(principal_cast, []) AS principal_cast, season_count, episode_count,
        series_title, match_method, match_confidence::DECIMAL(3, 2) AS match_confidence,
        coalesce(rated.rating_count, 0)::INTEGER AS rating_count,
        (stars / rated.rating_count)::DECIMAL(4, 3) AS rating_mean,
        ((stars + 25 * (SELECT sum(stars) / sum(rating_count) FROM rated)) / (rated.rating_count + 25))::DECIMAL(4, 3)
            AS bayesian_rating,
        CASE
            WHEN runtime_minutes < 40 THEN 'under 40 min' WHEN runtime_minutes < 90 THEN '40 to 89 min'
            WHEN runtime_minutes < 120 THEN '90 to 119 min' WHEN runtime_minutes < 150 THEN '120 to 149 min'
            WHEN runtime_minutes >= 150 THEN '150 min and more'
        END AS runtime_band
    FROM catalogue
    LEFT JOIN basics USING (tconst)
    LEFT JOIN votes USING (tconst)
    LEFT JOIN makers USING (tconst)
    LEFT JOIN series USING (tconst)
    LEFT JOIN parents USING (tconst)
    LEFT JOIN rated USING (movie_key)
)
SELECT
    joined.*, (year - year % 10)::INTEGER AS decade,
    coalesce(list_filter(telling_genres(), lambda g: list_contains(genres, g))[1], genres[1]) AS main_genre,
    if(
        tconst IS NOT NULL, 'https://www.imdb.com/title/' || tconst || '/',
        'https://www.imdb.com/find/?q=' || url_encode(concat_ws(' ', title, year)) || '&s=tt'
    ) AS link_url,
    if(tconst IS NOT NULL, 'imdb_title', 'imdb_search') AS link_kind
FROM joined;

CREATE TABLE marts.dim_people AS
WITH films AS (
    SELECT
        nconst, movie_key, bool_or(category = 'director') AS directed, bool_or(category = 'writer') AS wrote,
        bool_or(category IN ('actor', 'actress')) AS acted,
        bool_or(category NOT IN ('director', 'writer', 'actor', 'actress')) AS did_else
    FROM marts.fct_credits GROUP BY ALL
),
careers AS (
    SELECT
        nconst, count(*)::INTEGER AS movie_count, countif(directed)::INTEGER AS directed_count,
        countif(wrote)::INTEGER AS written_count, countif(acted)::INTEGER AS acted_count,
        countif(did_else)::INTEGER AS other_count, min(year) AS first_year, max(year) AS last_year,
        count(bayesian_rating)::INTEGER AS rated_movie_count,
        (sum(bayesian_rating) / count(bayesian_rating))::DECIMAL(4, 3) AS rating_mean
    FROM films INNER JOIN marts.dim_movies USING (movie_key) GROUP BY nconst
)
SELECT
    careers.*, name, birth_year, death_year, coalesce(professions, []) AS professions,
    coalesce(known_for_tconsts, []) AS known_for_tconsts
FROM careers LEFT JOIN people USING (nconst);

CREATE TABLE marts.fct_episodes AS
SELECT
    our_episodes.tconst, parent_tconst AS series_tconst, series_film.movie_key AS series_key,
    own_film.movie_key, series.primary_title AS series_title, season_number, episode_number,
    own.primary_title AS title, own.start_year AS year, "averageRating" AS imdb_rating, "numVotes" AS imdb_votes
FROM our_episodes
LEFT JOIN catalogue AS series_film ON parent_tconst = series_film.tconst
LEFT JOIN catalogue AS own_film ON our_episodes.tconst = own_film.tconst
LEFT JOIN basics AS series ON parent_tconst = series.tconst
LEFT JOIN basics AS own ON our_episodes.tconst = own.tconst
LEFT JOIN votes ON our_episodes.tconst = votes.tconst;

CREATE TABLE marts.movie_titles AS
WITH named AS (
    SELECT movie_key, primary_title AS title, NULL AS region, NULL AS language, 1 AS place
    FROM catalogue INNER JOIN basics USING (tconst)
    UNION ALL SELECT movie_key, basics.original_title, NULL, NULL, 2 FROM catalogue INNER JOIN basics USING (tconst)
    UNION ALL SELECT movie_key, title, NULL, NULL, 3 FROM keyed
    UNION ALL
    SELECT movie_key, move_article(trim(regexp_replace(bracket, '(?i)^\s*a\.?k\.?a\.?\s+', ''))), NULL, NULL, 3
    FROM (SELECT movie_key, unnest(bracketed) AS bracket FROM keyed)
    UNION ALL
    SELECT movie_key, akas.title, region, language, if(is_original_title, 2, 4)
    FROM catalogue INNER JOIN akas USING (tconst)
)
SELECT
    movie_key,
    row_number() OVER (
        PARTITION BY movie_key ORDER BY place, title, region NULLS FIRST, language NULLS FIRST
    )::INTEGER AS title_number,
    title, title_key(title) AS title_key, region, language, ['primary', 'original', 'edition', 'aka'][place] AS kind
FROM (SELECT DISTINCT * FROM named WHERE trim(title) != '');

-- A first look at the dumps finds no change.
CREATE TABLE marts.imdb_changes (
    look INTEGER, tconst VARCHAR, change VARCHAR, movie_key BIGINT, dump VARCHAR, snapshot_at TIMESTAMP,
    former_snapshot_at TIMESTAMP, title VARCHAR, former_title VARCHAR, year INTEGER, former_year INTEGER,
    rating DECIMAL(3, 1), former_rating DECIMAL(3, 1), rating_move DECIMAL(3, 1), votes INTEGER, former_votes INTEGER,
    vote_gain INTEGER
);

CREATE TABLE marts.movie_tags AS
WITH words AS (
    SELECT tag_id, lower(tag) AS tag
    FROM read_csv(
        getvariable('movielens') || '/genome-tags.csv', header = true, auto_detect = false, delim = ',', quote = '"',
        escape = '"', columns = {'tag_id': 'INTEGER', 'tag': 'VARCHAR'}
    )
),
relevant AS (
    SELECT movie_key, tag, max(relevance) AS relevance
    FROM read_csv(
        getvariable('movielens') || '/genome-scores.csv', header = true, auto_detect = false, delim = ',',
        columns = {'movie_id': 'INTEGER', 'tag_id': 'INTEGER', 'relevance': 'FLOAT'}
    )
    INNER JOIN words USING (tag_id) INNER JOIN (SELECT movie_id, movie_key FROM keyed) USING (movie_id)
    GROUP BY ALL
),
applied AS (
    SELECT movie_key, lower(tag) AS tag, count(DISTINCT user_key)::INTEGER AS user_count
    FROM marts.fct_tags GROUP BY ALL
)
SELECT movie_key, tag, relevance, coalesce(user_count, 0) AS user_count
FROM relevant FULL JOIN applied USING (movie_key, tag);

CREATE TABLE marts.bridge_movie_genres AS
SELECT DISTINCT movie_key, unnest(genres) AS genre FROM marts.dim_movies;

-- Features -----------------------------------------------------------------------------------------------------------

CREATE TABLE marts.movie_imdb AS
SELECT
    movie_key, getvariable('snapshot_at')::TIMESTAMP AS feature_timestamp, imdb_rating::DOUBLE AS imdb_rating,
    imdb_votes
FROM marts.dim_movies WHERE imdb_rating IS NOT NULL;

CREATE TABLE marts.movie_content AS
SELECT
    movie_key, TIMESTAMP '1900-01-01' AS feature_timestamp, year AS release_year, runtime_minutes,
    list_contains(genres, 'Action')::INTEGER AS is_action,
    list_contains(genres, 'Adventure')::INTEGER AS is_adventure,
    list_contains(genres, 'Animation')::INTEGER AS is_animation,
    list_contains(genres, 'Children')::INTEGER AS is_children,
    list_contains(genres, 'Comedy')::INTEGER AS is_comedy,
    list_contains(genres, 'Crime')::INTEGER AS is_crime,
    list_contains(genres, 'Documentary')::INTEGER AS is_documentary,
    list_contains(genres, 'Drama')::INTEGER AS is_drama,
    list_contains(genres, 'Fantasy')::INTEGER AS is_fantasy,
    list_contains(genres, 'Film-Noir')::INTEGER AS is_film_noir,
    list_contains(genres, 'Horror')::INTEGER AS is_horror,
    list_contains(genres, 'Musical')::INTEGER AS is_musical,
    list_contains(genres, 'Mystery')::INTEGER AS is_mystery,
    list_contains(genres, 'Romance')::INTEGER AS is_romance,
    list_contains(genres, 'Sci-Fi')::INTEGER AS is_sci_fi,
    list_contains(genres, 'Thriller')::INTEGER AS is_thriller,
    list_contains(genres, 'War')::INTEGER AS is_war,
    list_contains(genres, 'Western')::INTEGER AS is_western
FROM marts.dim_movies;

-- What somebody rated again, under another id of the movie, until when: from then on another rating stands in its place.
CREATE TEMP TABLE replaced AS
SELECT user_key, movie_key, rating, rated_at::DATE AS given_on, replaced_at::DATE AS day
FROM (
    SELECT
        user_key, movie_key, rating, rated_at,
        lead(rated_at) OVER (PARTITION BY user_key, movie_key ORDER BY rated_at, movie_id, rating) AS replaced_at
    FROM ratings INNER JOIN users USING (user_id) INNER JOIN keyed USING (movie_id)
    WHERE movie_key IN (SELECT movie_key FROM keyed GROUP BY movie_key HAVING count(*) > 1)
)
WHERE replaced_at IS NOT NULL;

CREATE TABLE marts.movie_features AS
WITH changes AS (
    SELECT movie_key, rated_at::DATE AS day, rated_at::DATE AS given_on, 1 AS n, (rating * 10)::INTEGER AS t
    FROM ratings INNER JOIN keyed USING (movie_id)
    UNION ALL
    SELECT movie_key, day, given_on, -1, (rating * 10)::INTEGER FROM replaced
),
days AS (
    SELECT
        movie_key, day, sum(n) AS n, sum(n * t) AS t, sum(n * t * t) AS tt,
        coalesce(sum(n) FILTER (WHERE t >= 40), 0) AS p
    FROM changes GROUP BY movie_key, day
),
-- A day is over when the last of its ratings is replaced.
lasting AS (
    SELECT movie_key, given_on, if(sum(n) = 0, max(day), 'infinity'::DATE) AS until FROM changes
    WHERE movie_key IN (SELECT movie_key FROM replaced) GROUP BY movie_key, given_on
),
firsts AS (
    SELECT days.movie_key, days.day, min(given_on) AS first_day
    FROM days INNER JOIN lasting
        ON days.movie_key = lasting.movie_key AND given_on <= days.day AND days.day < until
    GROUP BY days.movie_key, days.day
),
running AS (
    SELECT
        movie_key, day, min(day) OVER past AS first_day, sum(n) OVER past AS n, sum(t) OVER past AS t,
        sum(tt) OVER past AS tt, sum(p) OVER past AS p
    FROM days WINDOW past AS (PARTITION BY movie_key ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
)
SELECT
    movie_key, (day + 1)::TIMESTAMP AS feature_timestamp, n::INTEGER AS rating_count,
    round(t / (10.0 * n), 6)::DOUBLE AS rating_mean,
    round(sqrt(n * tt - t * t) / (10.0 * n), 6)::DOUBLE AS rating_stddev,
    round(p / n, 6)::DOUBLE AS positive_share,
    (day + 1 - coalesce(firsts.first_day, running.first_day))::INTEGER AS days_since_first
FROM running LEFT JOIN firsts USING (movie_key, day);

CREATE TABLE marts.user_features AS
WITH changes AS (
    SELECT
        user_key, movie_key, rated_at::DATE AS day, rated_at::DATE AS given_on, 1 AS n, (rating * 10)::INTEGER AS t
    FROM ratings INNER JOIN users USING (user_id) INNER JOIN (SELECT movie_id, movie_key FROM keyed) USING (movie_id)
    UNION ALL
    SELECT user_key, movie_key, day, given_on, -1, (rating * 10)::INTEGER FROM replaced
),
lasting AS (
    SELECT user_key, given_on, if(sum(n) = 0, max(day), 'infinity'::DATE) AS until FROM changes
    WHERE user_key IN (SELECT user_key FROM replaced) GROUP BY user_key, given_on
),
days AS (
    SELECT
        user_key, day, sum(n) AS n, sum(n * t) AS t, sum(n * t * t) AS tt,
        coalesce(sum(n) FILTER (WHERE t >= 40), 0) AS p,
        coalesce(sum(n) FILTER (WHERE release_year IS NOT NULL), 0) AS dated, sum(n * release_year) AS years,
        sum(n * COLUMNS('is_(.*)')) AS 'genre_share_\1'
    FROM changes INNER JOIN marts.movie_content USING (movie_key)
    GROUP BY user_key, day
),
standing AS (
    SELECT days.user_key, days.day, min(given_on) AS first_day, count(*) AS active_days
    FROM days INNER JOIN lasting
        ON days.user_key = lasting.user_key AND given_on <= days.day AND days.day < until
    GROUP BY days.user_key, days.day
),
running AS (
    SELECT
        user_key, day, min(day) OVER past AS first_day, count(*) OVER past AS active_days,
        sum(COLUMNS(* EXCLUDE (user_key, day))) OVER past
    FROM days WINDOW past AS (PARTITION BY user_key ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
)
SELECT
    user_key, (day + 1)::TIMESTAMP AS feature_timestamp, n::INTEGER AS rating_count,
    round(t / (10.0 * n), 6)::DOUBLE AS rating_mean,
    round(sqrt(n * tt - t * t) / (10.0 * n), 6)::DOUBLE AS rating_stddev,
    round(p / n, 6)::DOUBLE AS positive_share, coalesce(standing.active_days, running.active_days)::INTEGER AS active_days,
    (day + 1 - coalesce(standing.first_day, running.first_day))::INTEGER AS days_since_first,
    round(years / nullif(dated, 0), 6)::DOUBLE AS mean_release_year,
    round(COLUMNS(running.* EXCLUDE (user_key, day, first_day, active_days, n, t, tt, p, dated, years)) / n, 6)
FROM running LEFT JOIN standing USING (user_key, day);
