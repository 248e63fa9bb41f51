with ratings as (

    select * from {{ ref('int_ratings_keyed') }}

),

-- Only of these can somebody have several ratings: see fct_ratings.
merged_movies as (

    select movie_key
    from ratings
    group by movie_key
    having min(movie_id) != max(movie_id) or min(edition) != max(edition)

),

-- The order is that in which fct_ratings takes the latest.
in_order as (

    select
        user_key,
        movie_key,
        rating,
        rated_at,
        lead(rated_at) over (partition by user_key, movie_key order by rated_at, movie_id, rating) as replaced_at
    from ratings
    where movie_key in (select merged_movies.movie_key from merged_movies)

),

final as (

    select * from in_order
    where replaced_at is not null

)

select * from final
