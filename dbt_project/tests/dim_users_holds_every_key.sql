{{ config(meta={'dagster': {'ref': {'name': 'dim_users'}}}) }}
-- The keys of int_user_keys, to which those of facts lead, are those of dim_users: none more, none less, and nobody
-- who asked to be forgotten.
with keys as (

    select user_key from {{ ref('int_user_keys') }}
    where source != 'forgotten'

),

dimension as (

    select user_key from {{ ref('dim_users') }}

),

final as (

    select coalesce(keys.user_key, dimension.user_key) as user_key
    from keys
    full outer join dimension on keys.user_key = dimension.user_key
    where keys.user_key is null or dimension.user_key is null

)

select * from final
