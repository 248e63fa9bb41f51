-- With which films do people begin?
with firsts as (

    select
        user_key,
        arg_min(movie_key, (rated_at, movie_key)) as movie_key
    from {{ ref('fct_ratings') }}
    where edition != 'streaming'
    group by user_key

)

select
    movies.title,
    movies.year,
    movies.rating_count,
    count(*) as first_of_users
from firsts
inner join {{ ref('dim_movies') }} as movies on firsts.movie_key = movies.movie_key
group by movies.movie_key, movies.title, movies.year, movies.rating_count
order by first_of_users desc, movies.movie_key asc
limit 10
