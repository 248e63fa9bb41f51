with ratings as (

    select * from {{ ref('int_ratings_keyed') }}

),

users as (

    select * from {{ ref('int_user_keys') }}

),

-- The latest of several ratings stands; of two in the same second that of the higher movieId, then the higher one. The
-- three as one number: at 20M ratings a row value as the order makes this step several times slower.
ordered as (

    select
        user_key,
        movie_key,
        rating,
        rated_at,
        cast(epoch_us(rated_at) as hugeint) * 1000000000000
        + cast(movie_id as hugeint) * 100
        + cast(rating * 10 as integer) as recency
    from ratings

),

latest as (

    select
        user_key,
        movie_key,
        arg_max(rating, recency) as rating,
        max(rated_at) as rated_at,
        cast(count(*) as integer) as times_rated
    from ordered
    group by user_key, movie_key

),

final as (

    select
        latest.user_key,
        latest.movie_key,
        users.source as edition,
        latest.rating,
        latest.rated_at,
        latest.times_rated
    from latest
    inner join users on latest.user_key = users.user_key

)

select * from final
