-- Which films do people disagree about most?
select
    movies.title,
    movies.year,
    movies.rating_count,
    movies.rating_mean,
    round(stddev_samp(ratings.rating), 3) as rating_stddev
from {{ ref('fct_ratings') }} as ratings
inner join {{ ref('dim_movies') }} as movies on ratings.movie_key = movies.movie_key
where ratings.edition != 'streaming' and movies.rating_count >= 50
group by movies.movie_key, movies.title, movies.year, movies.rating_count, movies.rating_mean
order by rating_stddev desc, movies.movie_key asc
limit 10
