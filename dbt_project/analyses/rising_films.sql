-- Which films rise most in the last month with ratings, against the three months before?
select
    movies.title,
    popularity.month,
    popularity.rating_count,
    popularity.rating_count_before,
    popularity.trend
from {{ ref('fct_movie_popularity') }} as popularity
inner join {{ ref('dim_movies') }} as movies on popularity.movie_key = movies.movie_key
where popularity.month = (select max(latest.month) from {{ ref('fct_movie_popularity') }} as latest)
order by popularity.trend desc, movies.movie_key asc
limit 10
