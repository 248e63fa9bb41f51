-- With which films do people begin?
with firsts as (

    select
        user_key,
        movie_key
    from {{ ref('fct_ratings') }}
    where edition != 'streaming'
    qualify row_number() over (partition by user_key order by rated_at, movie_key) = 1

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
