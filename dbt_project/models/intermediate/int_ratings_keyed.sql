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

app_ratings as (

    select * from {{ ref('stg_app__ratings') }}

),

people as (

    select * from {{ ref('int_user_keys') }}

),

films as (

    select distinct movie_key from movies

),

of_the_edition as (

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

),

-- Of the app's own people and of those of this edition, for the films that this edition has.
of_the_app as (

    select
        people.user_key,
        app_ratings.movie_key,
        'app' as edition,
        cast(app_ratings.movie_id as integer) as movie_id,
        app_ratings.rating,
        app_ratings.rated_at
    from app_ratings
    inner join people
        on app_ratings.source = people.source and cast(app_ratings.source_id as varchar) = people.source_id
    inner join films on app_ratings.movie_key = films.movie_key
    where app_ratings.source = 'app' or app_ratings.source in (select movies.edition from movies)

),

final as (

    select * from of_the_edition
    union all
    select * from of_the_app

)

select * from final
