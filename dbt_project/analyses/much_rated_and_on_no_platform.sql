-- Which much rated films can be watched on none of the platforms?
select
    movies.title,
    movies.year,
    movies.rating_count,
    movies.rating_mean
from {{ ref('dim_movies') }} as movies
anti join {{ ref('dim_streaming_titles') }} as titles on movies.movie_key = titles.movie_key
where movies.rating_count > 0
order by movies.rating_count desc, movies.movie_key asc
limit 10
