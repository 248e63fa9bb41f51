-- How many titles have a score above x, by platform and year: FROM marts.get_score_count(score := 3.5, platform := 'hulu', year := 2016, type := 'movie'). Every filter may be left out; without a score every title that has one counts.
CREATE MACRO get_score_count(score := NULL, platform := NULL, year := NULL, type := NULL) AS TABLE
SELECT t.platform, t.release_year, count(*) AS titles
FROM marts.dim_streaming_titles AS t
WHERE t.score IS NOT NULL
    AND coalesce(t.score > score, true)
    AND coalesce(t.platform = lower(platform), true)
    AND coalesce(t.release_year = year, true)
    AND coalesce(t.type = lower(type), true)
GROUP BY t.platform, t.release_year
ORDER BY t.platform, t.release_year DESC
