with keys as (

    select
        user_key,
        source as edition,
        cast(source_id as integer) as user_id
    from {{ ref('int_user_keys') }}
    where source != 'forgotten'

),

ratings as (

    select * from {{ ref('fct_ratings') }}

),

users as (

    select * from {{ ref('stg_movielens__users') }}

),

rating_stats as (

    select
        user_key,
        count(*) as rating_count,
        min(rated_at) as first_rated_at,
        max(rated_at) as last_rated_at
    from ratings
    group by user_key

),

final as (

    select
        keys.user_key,
        keys.edition,
        keys.user_id,
        users.gender,
        users.age,
        users.occupation,
        users.zip_code,
        cast(coalesce(rating_stats.rating_count, 0) as integer) as rating_count,
        rating_stats.first_rated_at,
        rating_stats.last_rated_at
    from keys
    left join users on keys.edition = users.edition and keys.user_id = users.user_id
    left join rating_stats on keys.user_key = rating_stats.user_key

)

select * from final
