{{ config(materialized='incremental', incremental_strategy='append', full_refresh=false, on_schema_change='fail') }}

with ratings as (

    select * from {{ ref('stg_movielens__ratings') }}

),

tags as (

    select * from {{ ref('stg_movielens__tags') }}

),

users as (

    select * from {{ ref('stg_movielens__users') }}

),

known as (

    {% if is_incremental() %}
    select * from {{ this }}
    {% else %}
    select
        cast(null as bigint) as user_key,
        cast(null as varchar) as source,
        cast(null as varchar) as source_id
    where false
    {% endif %}

),

ids as (

    select
        edition,
        user_id
    from ratings
    union
    select
        edition,
        user_id
    from tags
    union
    select
        edition,
        user_id
    from users

),

new_ids as (

    select ids.*
    from ids
    left join known on ids.edition = known.source and cast(ids.user_id as varchar) = known.source_id
    where known.user_key is null

),

last_key as (

    select coalesce(max(user_key), 0) as user_key
    from known

),

final as (

    select
        cast(
            last_key.user_key + row_number() over (order by new_ids.edition, new_ids.user_id) as bigint
        ) as user_key,
        new_ids.edition as source,
        cast(new_ids.user_id as varchar) as source_id
    from new_ids
    cross join last_key

)

select * from final
