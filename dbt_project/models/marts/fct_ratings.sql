with ratings as (

    select * from {{ ref('int_ratings_keyed') }}

),

users as (

    select * from {{ ref('int_user_keys') }}

),

streaming_ratings as (

    select * from {{ ref('stg_streaming__ratings') }}

),

streaming_matches as (

    select * from {{ ref('int_streaming_matches') }}

),

-- Only of a film with several movieIds, or one that is rated in the file and in the app, can somebody have several
-- ratings: no file may hold a user and movieId twice, nor the app a person and film. So only those are grouped, and the
-- others, nearly all, are taken as they come.
merged_films as (

    select movie_key
    from ratings
    group by movie_key
    having min(movie_id) != max(movie_id) or min(edition) != max(edition)

),

single as (

    select
        user_key,
        movie_key,
        edition,
        rating,
        rated_at,
        cast(1 as integer) as times_rated
    from ratings
    where movie_key not in (select merged_films.movie_key from merged_films)

),

-- The latest of several ratings stands; of two in the same second that of the higher movieId, then the higher one. The
-- three as one number: at 20M ratings a row value as the order makes this step several times slower.
ordered as (

    select
        user_key,
        movie_key,
        edition,
        rating,
        rated_at,
        cast(epoch_us(rated_at) as hugeint) * 1000000000000
        + cast(movie_id as hugeint) * 100
        + cast(rating * 10 as integer) as recency
    from ratings
    where movie_key in (select merged_films.movie_key from merged_films)
    union all
    -- The same film on two platforms is one film here, so all of these are grouped.
    select
        users.user_key,
        streaming_matches.movie_key,
        users.source as edition,
        streaming_ratings.rating,
        streaming_ratings.rated_at,
        cast(epoch_us(streaming_ratings.rated_at) as hugeint) * 1000000000000
        + cast(streaming_ratings.rating * 10 as integer) as recency
    from streaming_ratings
    inner join streaming_matches on streaming_ratings.title_id = streaming_matches.title_id
    inner join users
        on users.source = 'streaming' and cast(streaming_ratings.user_id as varchar) = users.source_id

),

latest as (

    select
        user_key,
        movie_key,
        arg_max(edition, recency) as edition,
        arg_max(rating, recency) as rating,
        max(rated_at) as rated_at,
        cast(count(*) as integer) as times_rated
    from ordered
    group by user_key, movie_key

),

final as (

    select * from single
    union all
    select * from latest

)

select * from final
