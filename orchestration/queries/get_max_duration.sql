-- The longest title of each year, platform and kind of duration: FROM marts.get_max_duration(year := 2016, platform := 'netflix', type := 'min'). Every filter may be left out; of several as long the first by title.
CREATE MACRO get_max_duration(year := NULL, platform := NULL, type := NULL) AS TABLE
SELECT t.release_year, t.platform, t.duration_type, t.duration, t.title, t.title_id
FROM marts.dim_streaming_titles AS t
WHERE t.duration IS NOT NULL
    AND coalesce(t.release_year = year, true)
    AND coalesce(t.platform = lower(platform), true)
    AND coalesce(t.duration_type = lower(type), true)
QUALIFY row_number() OVER (
    PARTITION BY t.release_year, t.platform, t.duration_type ORDER BY t.duration DESC, t.title, t.title_id
) = 1
ORDER BY t.release_year DESC, t.platform, t.duration_type
