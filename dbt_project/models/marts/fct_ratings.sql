with ratings as (

    select * from {{ ref('int_ratings_keyed') }}

),

-- The latest of several ratings stands; of two in the same second the one of the higher movieId, then the higher one.
final as (

    select
        user_key,
        movie_key,
        any_value(edition) as edition,
        arg_max(rating, (rated_at, movie_id, rating)) as rating,
        max(rated_at) as rated_at,
        cast(count(*) as integer) as times_rated
    from ratings
    group by user_key, movie_key

)

select * from final
