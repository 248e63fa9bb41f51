-- The most frequent actor of each platform and year: FROM marts.get_actor(platform := 'netflix', year := 2018). Either may be left out; of several as frequent the first by name.
CREATE MACRO get_actor(platform := NULL, year := NULL) AS TABLE
SELECT t.platform, t.release_year, c.actor, count(*) AS titles
FROM marts.dim_streaming_titles AS t
INNER JOIN marts.bridge_title_cast AS c ON t.title_id = c.title_id
WHERE coalesce(t.platform = lower(platform), true) AND coalesce(t.release_year = year, true)
GROUP BY t.platform, t.release_year, c.actor
QUALIFY row_number() OVER (PARTITION BY t.platform, t.release_year ORDER BY count(*) DESC, c.actor) = 1
ORDER BY t.platform, t.release_year DESC
