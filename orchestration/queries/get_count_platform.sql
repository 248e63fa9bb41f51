-- How many titles each platform has: FROM marts.get_count_platform(platform := 'amazon', year := 2016, type := 'tv show'). Every filter may be left out.
CREATE MACRO get_count_platform(platform := NULL, year := NULL, type := NULL) AS TABLE
SELECT t.platform, count(*) AS titles
FROM marts.dim_streaming_titles AS t
WHERE coalesce(t.platform = lower(platform), true)
    AND coalesce(t.release_year = year, true)
    AND coalesce(t.type = lower(type), true)
GROUP BY t.platform
ORDER BY titles DESC, t.platform
