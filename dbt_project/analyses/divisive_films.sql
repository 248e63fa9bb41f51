-- Which films do people disagree about most?
with spreads as (

    select
        movie_key,
        round(stddev_samp(rating), 3) as rating_stddev
    from {{ ref('fct_ratings') }}
    where edition != 'streaming'
    group by movie_key

)

select
    movies.title,
    movies.year,
    movies.rating_count,
    movies.rating_mean,
    spreads.rating_stddev
from spreads
inner join {{ ref('dim_movies') }} as movies on spreads.movie_key = movies.movie_key
where movies.rating_count >= 50
order by spreads.rating_stddev desc, movies.movie_key asc
limit 10
