-- Where a film can be watched: FROM marts.where_to_watch('the lantern keeper', year := 1999). The name is sought within the platform's title and that of the matched film, whatever the case; the surest match comes first.
CREATE MACRO where_to_watch(film, year := NULL) AS TABLE
SELECT t.platform, t.source_title AS title, t.release_year, t.type, t.score, t.score_source, t.movie_key,
    t.match_confidence, t.title_id
FROM marts.dim_streaming_titles AS t
WHERE (contains(t.title, lower(film)) OR coalesce(contains(lower(t.movie_title), lower(film)), false))
    AND coalesce(t.release_year = year, true)
ORDER BY t.title = lower(film) DESC, t.match_confidence DESC, t.title, t.platform, t.title_id
