with ratings as (

    select * from {{ ref('stg_movielens__ratings') }}

),

users as (

    select
        user_key,
        source as edition,
        cast(source_id as integer) as user_id
    from {{ ref('int_user_keys') }}

),

movies as (

    select * from {{ ref('int_movies_keyed') }}

),

final as (

    select
        users.user_key,
        movies.movie_key,
        ratings.edition,
        ratings.movie_id,
        ratings.rating,
        ratings.rated_at
    from ratings
    inner join users on ratings.edition = users.edition and ratings.user_id = users.user_id
    inner join movies on ratings.edition = movies.edition and ratings.movie_id = movies.movie_id

)

select * from final
