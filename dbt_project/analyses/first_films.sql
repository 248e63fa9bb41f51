-- With which films do people begin?
with firsts as (

    select
        ratings.user_key,
        ratings.movie_key
    from {{ ref('fct_ratings') }} as ratings
    inner join {{ ref('dim_users') }} as users
        on ratings.user_key = users.user_key and ratings.rated_at = users.first_rated_at
    where ratings.edition != 'streaming'
    qualify row_number() over (partition by ratings.user_key order by ratings.movie_key) = 1

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
