with tags as (

    select * from {{ ref('stg_movielens__tags') }}

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
        tags.tag,
        max(tags.tagged_at) as tagged_at
    from tags
    inner join users on tags.edition = users.edition and tags.user_id = users.user_id
    inner join movies on tags.edition = movies.edition and tags.movie_id = movies.movie_id
    where tags.tag != ''
    group by users.user_key, movies.movie_key, tags.tag

)

select * from final
